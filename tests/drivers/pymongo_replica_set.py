"""A pymongo client of a replica set that does what its stdin says, and says what it sees.

    python tests/drivers/pymongo_replica_set.py URI

Each line of stdin is answered with a line:

    insert COLLECTION         the member that took the write
    find MODE COLLECTION      the member that served the read
    wait PRIMARY SECONDARIES  `seen`, once the driver sees these members (`none` for none)
"""

import sys
import time

import pymongo
from pymongo import monitoring, read_preferences

PATIENCE = 20
MODES = {
    "primary": read_preferences.Primary,
    "secondary": read_preferences.Secondary,
    "nearest": read_preferences.Nearest,
}


class Commands(monitoring.CommandListener):
    """The member that got the last command."""

    def started(self, event):
        self.member = "%s:%d" % event.connection_id

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def members(text):
    return set(text.split(",")) - {"none"}


def wait(client, primary, secondaries):
    """Waits until the driver sees these members. (It reports changes once a second only.)"""
    expected = members(primary), members(secondaries)
    deadline = time.monotonic() + PATIENCE
    while True:
        servers = [client.primary] if client.primary else [], client.secondaries
        seen = tuple({"%s:%d" % server for server in role} for role in servers)
        if seen == expected:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the driver sees {seen}, not {expected}")
        time.sleep(0.01)


def main():
    commands = Commands()
    client = pymongo.MongoClient(sys.argv[1], event_listeners=[commands])
    for line in sys.stdin:
        command, *words = line.split()
        if command == "insert":
            client["script"][words[0]].insert_one({})
            answer = commands.member
        elif command == "find":
            mode, collection = words
            script = client.get_database("script", read_preference=MODES[mode]())
            script[collection].find_one()
            answer = commands.member
        else:
            wait(client, *words)
            answer = "seen"
        print(answer, flush=True)
    client.close()


if __name__ == "__main__":
    main()
