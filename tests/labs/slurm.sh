#!/bin/sh
# usage: slurm.sh DIR NODES     a Slurm cluster on this machine, for as long as stdin is open
#
# Each node is a slurmd in a mount namespace of its own, with a file system of its own at /local. When the cluster is
# up, "ready" is printed; DIR/slurm.conf is its configuration. At the end of stdin all of it is ended.
# Ends with 77 where that cannot be had, the reason on stderr.
set -eu
dir=$1 nodes=$2 conf=$1/slurm.conf

cannot() {
    echo "$1" >&2
    exit 77
}
[ "$(id -u)" -eq 0 ] || cannot "a Slurm of one's own needs root"
for program in slurmctld slurmd srun munged; do
    command -v "$program" >/dev/null || cannot "$program is missing: apt-get install slurm-wlm munge"
done
end() {
    for file in "$dir"/*.pid; do
        [ ! -f "$file" ] || kill "$(cat "$file")" 2>/dev/null || :
    done
}
trap end EXIT
munge -n </dev/null >/dev/null 2>&1 || {
    mkdir -p /run/munge
    chown munge: /run/munge
    su -s /bin/sh munge -c "munged --pid-file=/run/munge/munged.pid" || cannot "munged does not start here"
}
mkdir -p "$dir/state" /local
host=$(hostname -s)
cat >"$conf" <<END
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((20000 + $$ % 5000))
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/controller.pid
SlurmdPidFile=$dir/%n.pid
SlurmctldLogFile=$dir/controller.log
SlurmdLogFile=$dir/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
END
number=1
while [ "$number" -le "$nodes" ]; do
    mkdir -p "$dir/spool.n$number"
    echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((25000 + $$ % 5000 + number)) CPUs=4 RealMemory=500" >>"$conf"
    number=$((number + 1))
done
echo "PartitionName=all Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES" >>"$conf"
slurmctld -f "$conf" || cannot "slurmctld does not start here"
number=1
while [ "$number" -le "$nodes" ]; do
    # shellcheck disable=SC2016
    unshare --mount sh -c 'mount -t tmpfs tmpfs /local && exec slurmd -N "$1" -f "$2"' sh "n$number" "$conf" ||
        cannot "slurmd does not start here"
    number=$((number + 1))
done
export SLURM_CONF="$conf"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(sinfo -h -o %T -N 2>/dev/null | grep -c '^idle')" -ne "$nodes" ] || {
        echo ready
        cat >/dev/null
        exit 0
    }
    sleep 0.5
done
cannot "the nodes do not come up: $(sinfo -h -o '%T %E' -N | head -n 1)"
