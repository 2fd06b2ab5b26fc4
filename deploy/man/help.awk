# Makes the manual page weir(1) of what `weir --help` prints, so that both have the same text:
#
#   weir --help | awk -v date='January 1, 2026' -v version=0.1.0 -f help.awk >weir.1
#
# The build does it. What it knows of --help: a short line that ends in a colon is a heading; below
# it, two spaces in, are items whose explanation begins in column 23; all else that is indented is
# shown as it is. Tried by: tests/run deploy

function escape(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    gsub(/`/, "\\(ga", text)
    gsub(/~/, "\\(ti", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/Weir\\-/, "\\%&", text) # not hyphenated
    sub(/^[.]/, "\\\\\\&.", text)
    return text
}

# mdoc wants each sentence to begin a line.
function prose(text) {
    text = escape(text)
    gsub(/[.] /, "&\n", text)
    gsub(/ \n/, "\n", text)
    return text
}

# What is open: "" or "list" or "literal".
function open_as(kind) {
    if (kind == opened) {
        return
    }
    if (opened == "list") {
        print ".El"
    } else if (opened == "literal") {
        print ".Ed"
    }
    if (kind == "list") {
        print ".Bl -tag -width Ds"
    } else if (kind == "literal") {
        print ".Bd -literal -offset 2n"
    }
    opened = kind
}

function item(tag,    words, count, i) {
    count = split(tag, words, " ")
    if (tag !~ /^--/) {
        print ".It Sy " escape(tag)
        return
    }
    printf ".It"
    for (i = 1; i <= count; i++) {
        if (words[i] ~ /^--/) {
            printf " Fl %s", escape(substr(words[i], 2))
        } else {
            printf " Ar %s", escape(words[i])
        }
    }
    print ""
}

function synopsis(line,    words, count, i) {
    count = split(line, words, " ")
    print ".Nm"
    for (i = 2; i <= count; i++) {
        if (words[i] ~ /^\[.*\]$/) {
            print ".Op Ar " substr(words[i], 2, length(words[i]) - 2)
        } else {
            print ".Cm " words[i]
        }
    }
}

function heading(line) {
    open_as("")
    if (line == "Signals:") {
        print ".Sh SIGNALS"
    } else {
        print ".Ss " escape(substr(line, 1, length(line) - 1))
    }
    fresh = 0
}

BEGIN {
    print ".\\\" Made of weir --help by deploy/man/help.awk."
    print ".Dd " date
    print ".Dt WEIR 1"
    print ".Os \"Weir " version "\""
    print ".Sh NAME"
    print ".Nm weir"
    print ".Nd HTTP proxy that queues requests per host"
    print ".Sh SYNOPSIS"
    part = "synopsis"
}

part == "synopsis" && /^$/ {
    part = "text"
    fresh = 0 # whether a paragraph begins
    print ".Sh DESCRIPTION"
    next
}
part == "synopsis" {
    sub(/^Usage:/, "")
    synopsis($0)
    next
}
/^$/ {
    open_as("")
    fresh = 1
    next
}
fresh && /^Exit status: / {
    print ".Sh FILES"
    print ".Bl -tag -width Ds"
    print ".It Pa /etc/weir/weir.json"
    print "the configuration of the service that the Debian package installs"
    print ".El"
    print ".Sh EXIT STATUS"
    sub(/^Exit status: /, "")
    fresh = 0
}
fresh && /^Environment / {
    print ".Sh ENVIRONMENT"
    sub(/^Environment /, "")
    fresh = 0
}
fresh && length($0) < 40 && /^[^ ].*:$/ {
    heading($0)
    next
}
/^                      [^ ]/ && opened == "list" {
    print prose(substr($0, 23))
    next
}
/^  [^ ]/ && substr($0, 21, 2) == "  " && substr($0, 23, 1) != " " {
    tag = substr($0, 1, 22)
    gsub(/^ +| +$/, "", tag)
    open_as("list")
    item(tag)
    print prose(substr($0, 23))
    next
}
/^  / {
    open_as("literal")
    print escape(substr($0, 3))
    next
}
{
    if (opened != "" || fresh) {
        open_as("")
        print ".Pp"
    }
    fresh = 0
    print prose($0)
}

END {
    open_as("")
    print ".Sh SEE ALSO"
    print ".Xr curl 1 ,"
    print ".Xr weir.json 5"
}
