# shellcheck shell=bash
#
# What the scripts here, in tests/ and the Dockerfile do alike: install what is missing, build a
# preset, count tests. It is sourced, so that the list of packages and the manner of building stand in
# one place and a machine on which one of the scripts has run suits the others. Tried by: .ci/run

STEPS_ROOT="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)"

# What building Weir needs. libc6-dev is named because gcc only recommends it, and
# recommendations are not installed.
# shellcheck disable=SC2034 # used by those who source this
STEPS_BUILD_PACKAGES=(gcc libc6-dev cmake ninja-build pkg-config ca-certificates curl
    libmicrohttpd-dev libcurl4-openssl-dev libssl-dev libcrypt-dev libjansson-dev libuv1-dev
    uthash-dev)

steps_say() {
    printf '%s\n' "$*" >&2
}

# steps_usage FILE: the comment at the head of a script is also its help.
steps_usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1" | sed '/^shellcheck/d' >&2
}

# steps_quietly COMMAND...: runs it, and shows what it printed only where it failed.
steps_quietly() {
    local output status=0
    output="$(mktemp)"
    "$@" >"$output" 2>&1 </dev/null || status=$?
    if ((status != 0)); then
        cat -- "$output" >&2
    fi
    rm -f -- "$output"
    return "$status"
}

# steps_count COMMAND...: runs it, and adds what its last line says, 'N passed, N failed', to the two
# variables of these names.
steps_count() {
    local output status=0
    local -a numbers=()
    output="$(mktemp)"
    "$@" | tee -- "$output" || status=$?
    read -ra numbers < <(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$output" | tail -n 1) || true
    rm -f -- "$output"
    passed=$((passed + ${numbers[0]:-0}))
    failed=$((failed + ${numbers[2]:-0}))
    if ((status != 0 && ${numbers[2]:-0} == 0)) || ((${#numbers[@]} == 0)); then
        steps_say "FAILED: $1 did not come to its end."
        failed=$((failed + 1))
    fi
}

# steps_missing NAME...: those of the packages that are not installed, one a line.
steps_missing() {
    local -A installed=()
    local name state
    # It fails where a name is unknown to it, and that is just what is asked.
    while read -r name state; do
        if [[ $state == installed ]]; then
            installed[$name]=1
        fi
    done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for name in "$@"; do
        if [[ -z ${installed[$name]:-} ]]; then
            printf '%s\n' "$name"
        fi
    done
}

# steps_install NAME...: installs those that are missing, without a question.
steps_install() {
    local missing
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        steps_say "This needs Debian's dpkg-query and apt-get. Elsewhere install what corresponds" \
            "to: $*; then build with cmake (CONTRIBUTING.md)."
        return 1
    fi
    mapfile -t missing < <(steps_missing "$@")
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if ((EUID != 0)); then
        steps_say "These packages are missing, and only root can install them: ${missing[*]}"
        steps_say "Run this as root, or first: apt-get install ${missing[*]}"
        return 1
    fi
    steps_say "Installing ${missing[*]} ..."
    # The lists of a fresh machine are often empty or too old; where they are good, asking for
    # them again is a waste.
    if ! steps_apt_get install "${missing[@]}" >/dev/null 2>&1; then
        steps_quietly steps_apt_get update &&
            steps_quietly steps_apt_get install "${missing[@]}"
    fi
}

steps_apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# steps_build PRESET [CMAKE_OPTION...] [-- TARGET...]: configures and builds; prints only failures.
steps_build() {
    local preset=$1 directory="$STEPS_ROOT/build/$1"
    local -a options=() targets=()
    shift
    while (($# > 0)) && [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    if (($# > 1)); then
        targets=(--target "${@:2}")
    fi
    if [[ ! -e $directory/build.ninja ]]; then
        steps_say "Building ($preset; later runs only build what has changed) ..."
    fi
    steps_quietly cmake -S "$STEPS_ROOT" --preset "$preset" "${options[@]}" &&
        steps_quietly cmake --build "$directory" "${targets[@]}"
}
