# shellcheck shell=bash
#
# Fresh minimal Debians, for what must be seen on another machine than this one: the image's base,
# the package, the tests on the other release. Sourced after deploy/steps.sh; needs root, and the
# machine's own access to Debian's mirror. Tried by: deploy/image-test, deploy/package-test.

# debian_tar RELEASE: prints the path of a minimal root of bookworm or trixie as a tar; made once,
# which takes half a minute, and kept below build/.
debian_tar() {
    local tar="$STEPS_ROOT/build/debian/$1.tar"
    if [[ ! -s $tar ]]; then
        steps_install mmdebstrap || return
        steps_say "Making a minimal Debian $1 ..."
        mkdir -p -- "${tar%/*}"
        steps_quietly mmdebstrap --variant=minbase --include=ca-certificates --mode=root \
            "$1" "$tar.part.tar" || return
        mv -- "$tar.part.tar" "$tar"
    fi
    printf '%s\n' "$tar"
}

# debian_root RELEASE DIRECTORY: unpacks such a root into DIRECTORY, which it makes, with this
# machine's way to resolve names and the authorities that it trusts beside Debian's. rm -rf
# --one-file-system takes it away again.
debian_root() {
    local tar
    tar="$(debian_tar "$1")" || return
    mkdir -p -- "$2"
    tar -xf "$tar" -C "$2" --numeric-owner
    rm -f -- "$2/etc/resolv.conf"
    cp -L -- /etc/resolv.conf "$2/etc/resolv.conf"
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp -- /usr/local/share/ca-certificates/*.crt "$2/usr/local/share/ca-certificates/"
        steps_quietly debian_run "$2" update-ca-certificates
    fi
}

# debian_run DIRECTORY COMMAND...: runs it as root in that root, with the machine's network, its own
# processes and mounts; all of them end with it. The environment is the root's, not ours. Node has
# authorities of its own, and is told of the root's.
debian_run() {
    local root=$1
    shift
    # shellcheck disable=SC2016 # the inner shell expands them
    unshare --mount --pid --fork --kill-child --propagation private bash -c '
        set -e
        root=$1
        shift
        mount --bind "$root" "$root" # what runs there can then mount, too
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
            NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' - "$root" "$@" </dev/null
}

# debian_copy_tree DIRECTORY: copies the project, without what was built, to DIRECTORY, which it makes.
debian_copy_tree() {
    mkdir -p -- "$1"
    tar -C "$STEPS_ROOT" --exclude=./.git --exclude=./build --exclude=__pycache__ -cf - . |
        tar -C "$1" --no-same-owner -xf -
}

# debian_boot DIRECTORY: starts the root's own systemd, which must be installed there, with its own
# processes, mounts, cgroups and a network that is only loopback; waits until it is up. debian_in
# runs commands in it, debian_halt ends it and all that it started. One at a time.
debian_boot() {
    local root=$1 deadline=$((SECONDS + 60))
    DEBIAN_CGROUP="weir-$$-$RANDOM"
    # shellcheck disable=SC2016 # the inner shells expand them
    unshare --mount --propagation private bash -c '
        set -e
        mount -t cgroup2 none "$1/mnt"
        mkdir "$1/mnt/$2"
        echo $$ >"$1/mnt/$2/cgroup.procs"
        umount "$1/mnt"
        exec unshare --mount --cgroup --pid --fork --kill-child --uts --ipc --net bash -c '\''
            set -e
            root=$1
            mount --bind "$root" "$root"
            mount -t proc proc "$root/proc"
            mount -t sysfs -o ro sysfs "$root/sys"
            mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
            mount -t tmpfs -o mode=755 tmpfs "$root/run"
            mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
            mount -t tmpfs -o mode=755 tmpfs "$root/dev"
            # Nodes of its own: systemd changes the modes of what it finds.
            for node in null:1:3 console:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
                IFS=: read -r name major minor <<<"$node"
                mknod --mode=666 "$root/dev/$name" c "$major" "$minor"
            done
            ln -s /proc/self/fd "$root/dev/fd"
            ln -s pts/ptmx "$root/dev/ptmx"
            mkdir "$root/dev/shm" "$root/dev/pts"
            mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
            cd "$root"
            pivot_root . mnt # not chroot: services are to have mounts of their own
            umount -l mnt
            mount --make-rshared / # as systemd itself does where it is not in a container
            exec env -i container=weir PATH=/usr/sbin:/usr/bin:/sbin:/bin \
                /lib/systemd/systemd --log-target=journal systemd.unit=multi-user.target
        '\'' - "$1"
    ' - "$root" "$DEBIAN_CGROUP" </dev/null >"$root.boot" 2>&1 &
    DEBIAN_BOOT=$!
    until DEBIAN_INIT="$(pgrep -P "$DEBIAN_BOOT")" &&
        [[ $(debian_in systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; do
        if ((SECONDS > deadline)) || ! kill -0 "$DEBIAN_BOOT"; then
            steps_say "The systemd in $root did not start:"
            cat -- "$root.boot" >&2
            return 1
        fi
        sleep 0.1
    done
}

# debian_in COMMAND...: runs it as root beside the systemd that debian_boot has started.
debian_in() {
    nsenter --target "$DEBIAN_INIT" --mount --pid --uts --ipc --net --cgroup --root --wd env -i \
        HOME=/root LANG=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" </dev/null
}

debian_halt() {
    if [[ -n ${DEBIAN_BOOT:-} ]]; then
        kill -KILL "$DEBIAN_INIT" 2>/dev/null || true
        wait "$DEBIAN_BOOT" 2>/dev/null || true
        # shellcheck disable=SC2016 # the inner shell expands it
        unshare --mount --propagation private bash -c '
            mount -t cgroup2 none /mnt && find "/mnt/$1" -depth -type d -exec rmdir {} +
        ' - "$DEBIAN_CGROUP" || true
        DEBIAN_BOOT=
    fi
}
