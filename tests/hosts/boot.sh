#!/bin/sh
# The first process of a host, in its new namespaces: mounts what it is to see, and becomes its init.
#     boot.sh FOLDER      the host's: `own` and `../base` are what it starts with, `disk` what it writes
set -eu
folder=$1 root=$1/root disk=$1/disk

mkdir -p "$root" "$disk/root" "$disk/root.work" "$disk/usr" "$disk/usr.work"
mount -t overlay -o "lowerdir=$folder/own:$folder/../base,upperdir=$disk/root,workdir=$disk/root.work" overlay "$root"
mount -t overlay -o "lowerdir=/usr,upperdir=$disk/usr,workdir=$disk/usr.work" overlay "$root/usr"
if [ -d /var/lib/dpkg ]; then  # which packages there are
    mount --bind /var/lib/dpkg "$root/var/lib/dpkg"
    mount -o remount,bind,ro "$root/var/lib/dpkg"
fi
cd "$root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# Of /proc/sys only the network's is the host's own.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -o remount,bind,rw proc/sys/net
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir run/sshd run/lock dev/pts dev/shm
for device in null zero full random urandom tty; do
    mknod -m 666 "dev/$device" c "$(stat -c 0x%t "/dev/$device")" "$(stat -c 0x%T "/dev/$device")"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

hostname "$(cat etc/hostname)"
mkdir -p old
pivot_root . old
cd /
umount -l /old
exec /bin/sh /init
