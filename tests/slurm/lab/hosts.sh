#!/usr/bin/env bash
# hosts.sh STATE NODES HIDE…: the first process of a process namespace. It makes one host after the other (login, laptop,
# traveller, n1…), each a network, a host name and files of its own, and holds them until its standard input ends; with it ends all
# that ran on them, and the kernel takes networks and mounts back.
#
#      laptop eth0 10.79.0.2 ── 10.79.0.1 eth1 ╮
#                                              login eth0 10.78.0.1 ── 10.78.0.11… eth0 n1…
#   traveller eth0 10.79.1.2 ── 10.79.1.1 eth2 ╯
set -euo pipefail
state=$1 nodes=$2
shift 2
hide=("$@")

host() {  # NAME: runs in namespaces of its own, and stays
    name=$1 files=$state/files/$1
    hostname "$name"
    # Software and the state directory may lie below a directory that is hidden: they are held open meanwhile.
    mapfile -t keep < "$state/shared/keep"
    declare -A held
    for path in "$files" "${keep[@]}"; do exec {fd}< "$path" && held[$path]=$fd; done
    for directory in "${hide[@]}"; do
        mkdir -p "$files$directory" && chmod --reference="$directory" "$files$directory"
    done
    for directory in "${hide[@]}"; do
        mount --no-canonicalize --bind "/proc/self/fd/${held[$files]}$directory" "$directory"
    done
    for path in "${keep[@]}"; do
        mkdir -p "$path" && mount --no-canonicalize --bind "/proc/self/fd/${held[$path]}" "$path"
    done
    mount -t tmpfs none "$state/files"  # what is on the others
    mount -t tmpfs none /run && mkdir -m 755 /run/sshd
    mount --bind "$state/shared/hosts" /etc/hosts
    for fd in "${held[@]}"; do exec {fd}<&-; done
    touch "$state/shared/up-$name"
    exec -a "host $name" sleep infinity
}
if [ "${LAB_HOST:-}" ]; then host "$LAB_HOST"; fi

declare -A pids
for name in login laptop traveller $(seq -f n%g "$nodes"); do
    LAB_HOST=$name unshare --net --mount --uts --propagation private "$BASH" "$0" "$state" "$nodes" "${hide[@]}" &
    pids[$name]=$!
done
for name in "${!pids[@]}"; do
    until [ -e "$state/shared/up-$name" ]; do kill -0 "${pids[$name]}" && sleep 0.01; done
done

on() { nsenter --target "${pids[$1]}" --net "${@:2}"; }
for name in "${!pids[@]}"; do on "$name" ip link set lo up; done
# The bridge between the nodes is the login node's own interface: eth0 is the cluster's network everywhere.
on login ip link add eth0 type bridge
on login ip link set eth0 up
on login ip addr add 10.78.0.1/24 dev eth0
for i in $(seq "$nodes"); do
    on login ip link add "to-n$i" type veth peer name eth0 netns "${pids[n$i]}"
    on login ip link set "to-n$i" master eth0 up
    on "n$i" ip addr add "10.78.0.$((10 + i))/24" dev eth0
    on "n$i" ip link set eth0 up
done
subnet=0
for name in laptop traveller; do
    inside=eth$((subnet + 1))
    on login ip link add $inside type veth peer name eth0 netns "${pids[$name]}"
    on login ip addr add 10.79.$subnet.1/24 dev $inside
    on login ip link set $inside up
    on $name ip addr add 10.79.$subnet.2/24 dev eth0
    on $name ip link set eth0 up
    subnet=$((subnet + 1))
done

echo up
read -r _ || true
