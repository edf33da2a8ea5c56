#!/bin/sh
# The first process of the guest: a shell on the console, with job control.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM="${TERM:-vt100}" PS1='\w # '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
hostname guest
ip link set lo up
# From here on the console is the shell's: only what is serious may interrupt it.
dmesg -n 4
read -r up idle </proc/uptime
echo
echo "$(uname -sr): up after ${up} s. Leave with poweroff -f."
cd /root || exit
# Leaving the shell ends the machine: an init that exits would only make the kernel panic.
setsid cttyhack sh
poweroff -f
