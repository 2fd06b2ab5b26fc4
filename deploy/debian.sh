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
