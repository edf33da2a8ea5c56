#!/bin/sh
# The first process of the guest: mounts what a system needs, and either goes on from the disk that root= names or
# starts a shell on the console, with job control. On the disk it is the same program: there root= is mounted already.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM="${TERM:-vt100}" PS1='\w # '
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -e /etc/on-disk ] || mount -t devtmpfs dev /dev
while read -r module; do insmod "/lib/modules/$module.ko"; done 2>/dev/null </lib/modules/order

root=$(sed -n 's/.*\<root=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$root" ] && [ ! -e /etc/on-disk ]; then
  tries=0
  until [ -b "$root" ] || [ $((tries += 1)) -gt 100 ]; do sleep 0.1; done
  mkdir -p /new
  if mount -t ext4 "$root" /new; then
    umount /proc /sys
    mount --move /dev /new/dev
    exec switch_root /new /init
  fi
  echo "cannot mount $root; here is a shell in the initramfs"
fi

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
sync
poweroff -f
