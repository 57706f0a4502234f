"""A pymongo client of a replica set that does what its stdin says, and says what it sees.

    python tests/drivers/pymongo_replica_set.py URI

Each line of stdin is answered with a line:

    insert COLLECTION         the member that took the write
    find MODE COLLECTION      the member that served the read
    wait PRIMARY SECONDARIES  `seen`, once the driver sees these members (`none` for none)
"""

import sys
import threading

import pymongo
from pymongo import monitoring, read_preferences

PATIENCE = 20
MODES = {
    "primary": read_preferences.Primary,
    "secondary": read_preferences.Secondary,
    "nearest": read_preferences.Nearest,
}


class Topology(monitoring.TopologyListener):
    """The members by role, as the driver sees them."""

    def __init__(self):
        self.changed = threading.Condition()
        self.seen = None

    def opened(self, event):
        pass

    def closed(self, event):
        pass

    def description_changed(self, event):
        servers = event.new_description.server_descriptions().values()
        roles = [("%s:%d" % server.address, server.server_type_name) for server in servers]
        with self.changed:
            self.seen = tuple(
                {address for address, role in roles if role == wanted}
                for wanted in ("RSPrimary", "RSSecondary")
            )
            self.changed.notify_all()

    def wait(self, primary, secondaries):
        expected = tuple(set(it.split(",")) - {"none"} for it in (primary, secondaries))
        with self.changed:
            if not self.changed.wait_for(lambda: self.seen == expected, PATIENCE):
                raise SystemExit(f"the driver sees {self.seen}, not {expected}")


class Commands(monitoring.CommandListener):
    """The member that got the last command."""

    def started(self, event):
        self.member = "%s:%d" % event.connection_id

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def main():
    topology, commands = Topology(), Commands()
    client = pymongo.MongoClient(sys.argv[1], event_listeners=[topology, commands])
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
            topology.wait(*words)
            answer = "seen"
        print(answer, flush=True)
    client.close()


if __name__ == "__main__":
    main()
