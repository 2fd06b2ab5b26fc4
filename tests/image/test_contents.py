"""What is in the image, and what it says of itself."""

import ssl
import stat
import subprocess

from container import run_image

BYTES_MAX = 40_000_000

OTHER_FILES = {"usr/bin/weir", "etc/passwd", "etc/group", "etc/weir/weir.json",
               "etc/ssl/certs/ca-certificates.crt"}


def files_of(root):
    """Everything in the image that is no directory."""
    return {str(path.relative_to(root)): path for path in root.rglob("*")
            if path.is_symlink() or not path.is_dir()}


def loader_of(root):
    (loader,) = [path for path in root.glob("lib*/**/ld-linux*") if path.is_file()]
    return "/" + str(loader.relative_to(root))


def libraries_of(root):
    """What the image's own loader finds for the binary, and itself."""
    loader = loader_of(root)
    done = subprocess.run(["chroot", root, loader, "--list", "/usr/bin/weir"], capture_output=True,
                          text=True, check=True)
    assert "not found" not in done.stdout, done.stdout
    found = {word for line in done.stdout.splitlines() for word in line.split() if word[0] == "/"}
    return {path.removeprefix("/") for path in found | {loader}}


def test_it_holds_weir_and_what_weir_needs_and_nothing_else(root):
    libraries = libraries_of(root)
    assert {path.rpartition("/")[2].partition(".so")[0] for path in libraries} >= {
        "libc", "libcurl", "libmicrohttpd", "libuv", "libjansson", "libssl"}
    assert set(files_of(root)) == libraries | OTHER_FILES


def test_it_is_small(image, root):
    assert image["Size"] <= BYTES_MAX
    assert sum(path.lstat().st_blocks * 512 for path in root.rglob("*")) <= BYTES_MAX


def test_nothing_in_it_can_be_changed_or_gives_rights(root):
    for path in root.rglob("*"):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0), path
        assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH), path
        assert found.st_mode & stat.S_IROTH, path


def test_its_user_is_a_number_with_a_name(image, root):
    assert image["Config"]["User"] == "65532:65532"
    assert (root / "etc/passwd").read_text().startswith("weir:x:65532:65532:")
    assert len((root / "etc/passwd").read_text().splitlines()) == 1


def test_it_says_how_it_is_used(image):
    config = image["Config"]
    assert config["Entrypoint"] == ["/usr/bin/weir"] and not config.get("Cmd")
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9901/tcp"}
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert image["Healthcheck"]["Test"] == ["CMD", "/usr/bin/weir", "check"]


def test_its_labels_are_true(image):
    labels = {name.removeprefix("org.opencontainers.image."): value
              for name, value in image["Labels"].items()}
    assert labels["title"] == "Weir" and labels["licenses"] == "MIT" and labels["description"]
    version = run_image("--version").stdout
    assert version.strip() == "weir " + labels["version"]


def test_it_trusts_whom_debian_trusts(root):
    context = ssl.create_default_context(cafile=root / "etc/ssl/certs/ca-certificates.crt")
    assert len(context.get_ca_certs()) > 100
