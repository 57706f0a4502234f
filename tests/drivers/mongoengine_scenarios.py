"""What an application does with MongoEngine.

    python tests/drivers/mongoengine_scenarios.py URI COLLECTION
"""

import sys

import mongoengine
from pymongo import ReadPreference


class Order(mongoengine.Document):
    number = mongoengine.IntField(primary_key=True)
    text = mongoengine.StringField(unique=True)
    meta = {"collection": sys.argv[2]}


def main():
    mongoengine.connect("drivers", host=sys.argv[1])
    Order.objects.insert([Order(number=n, text=f"order {n}") for n in range(100)])
    order = Order.objects.get(text="order 7")
    order.text = "changed"
    order.save()
    assert Order.objects(text="changed").first().number == 7
    assert len(list(Order.objects.batch_size(10))) == 100
    nearest = Order.objects.read_preference(ReadPreference.NEAREST)
    assert nearest.count() == 100
    try:
        Order(number=200, text="changed").save()
        raise AssertionError("a duplicate was taken")
    except mongoengine.NotUniqueError:
        pass
    assert Order.objects(number__gte=90).delete() == 10
    mongoengine.disconnect()


if __name__ == "__main__":
    main()
