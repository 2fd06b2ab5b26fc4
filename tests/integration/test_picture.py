"""The question that the project comes from: nine downloads of 1 to 3 units of time through a limit
of 3. Time is virtual: the test ends the downloads in the order of their ends."""

import heapq

from weir import in_order

UNITS = [3, 1, 2, 1, 2, 3, 1, 1, 1]

# Each column of dashes is a third of a unit; each digit is the start of that download.
PICTURE = """\
1---------7---9---
2---4---6---------
3------5------8---
"""


def drawn(rows):
    return "".join("".join(f"{number}{'---' * UNITS[number - 1]}" for number in row) + "\n"
                   for row in rows)


def test_nine_downloads_through_a_limit_of_three(weir, held):
    clients = in_order(weir, held, 9)
    rows = [[], [], []]
    ends = []  # (virtual time, number, row, request)
    for row in range(3):
        request = held.next()
        number = int(request.target[1:]) + 1
        rows[row].append(number)
        heapq.heappush(ends, (UNITS[number - 1], number, row, request))
    started = sorted(number for row in rows for number in row)
    rows.sort()  # the first three start in one moment
    ends = sorted((end, number, number - 1, request) for end, number, _, request in ends)

    while ends:
        host = weir.host(held.host)
        waiting = 9 - len(started)
        assert host["active"] == held.running() == len(ends)
        assert host["queued"] == waiting
        assert len(ends) == 3 or waiting == 0
        now, number, row, request = heapq.heappop(ends)
        request.answer(body=b"download %d" % number)
        assert clients[number - 1].read().body == b"download %d" % number
        if waiting:
            request = held.next()
            number = int(request.target[1:]) + 1
            started.append(number)
            rows[row].append(number)
            heapq.heappush(ends, (now + UNITS[number - 1], number, row, request))
        else:
            weir.wait_host(held.host, active=len(ends))

    assert started == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert drawn(rows) == PICTURE
    assert now == sum(UNITS) / 3 == 5, "the last ends as early as can be"
    assert held.peak_running == held.peak_connections == 3
    assert weir.host(held.host)["peak_active"] == 3
