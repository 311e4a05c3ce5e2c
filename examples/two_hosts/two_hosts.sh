#!/bin/sh
# Two machines in miniature: two network namespaces, joined by one cable, each with its own torchrun, training one model.
#
#     examples/two_hosts/two_hosts.sh [--cut FILE] COMMAND...
#     examples/two_hosts/two_hosts.sh -m convscope train lenet5 --data digits --run-dir runs/two-hosts
#
# COMMAND is what torchrun runs on both, with $PROCESSES processes each (1). With --cut the cable is pulled as soon as
# FILE is there. Needs Linux, iproute2 and util-linux, and no rights but that to make a user namespace. What the hosts
# print comes out with "first: " and "second: " in front.
set -u
if [ "${INSIDE_TWO_HOSTS:-}" != yes ]; then
  # Everything that is begun in there ends with it.
  INSIDE_TWO_HOSTS=yes exec unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi
unset INSIDE_TWO_HOSTS
cut=
if [ "$1" = --cut ]; then cut=$2; shift 2; fi

unshare --net sleep 86400 &
second=$!
while [ "$(readlink /proc/$second/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
there="nsenter --net=/proc/$second/ns/net"
ip link add cable0 type veth peer name cable1 netns "$second" || exit 1
ip link set lo up && ip address add 10.77.0.1/24 dev cable0 && ip link set cable0 up || exit 1
# How long the system goes on sending to a machine that does not answer: 4 times, 6 s, where 15 times (15 minutes) is usual.
echo 4 > /proc/sys/net/ipv4/tcp_retries2 && $there sh -c 'echo 4 > /proc/sys/net/ipv4/tcp_retries2' || exit 1
$there ip link set lo up && $there ip address add 10.77.0.2/24 dev cable1 && $there ip link set cable1 up || exit 1

host() { # NAME, ADDRESS, CABLE, WHETHER IT KEEPS THE MEETING PLACE, how to get there
  name=$1 address=$2 cable=$3 keeps=$4 inside=$5
  shift 5
  GLOO_SOCKET_IFNAME=$cable $inside "${PYTHON:-python3}" -m torch.distributed.run --nnodes=2 --nproc-per-node="${PROCESSES:-1}" \
    --rdzv-backend=c10d --rdzv-endpoint=10.77.0.1:29500 --rdzv-id=two-hosts --rdzv-conf="is_host=$keeps" \
    --local-addr="$address" "$@" 2>&1 | sed -u "s/^/$name: /"
}
status=$(mktemp)
{ host first 10.77.0.1 cable0 1 "" "$@"; } &
one=$!
host second 10.77.0.2 cable1 0 "$there" "$@" &
other=$!
if [ -n "$cut" ]; then
  while [ ! -e "$cut" ]; do sleep 0.05; done
  ip link set cable0 down
  echo "two_hosts: the cable is pulled at $(date +%s)"
fi
wait "$one"
echo "two_hosts: first has ended at $(date +%s)"
wait "$other"
echo "two_hosts: second has ended at $(date +%s)"
