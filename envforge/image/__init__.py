"""Image: built files that container runtimes take: OCI archives, SquashFS, SIF.

``base`` is what they start from, ``layers`` how an environment is spread over blobs; ``oci``, ``squashfs``
and ``sif`` write one kind each.
"""
