"""What an application does while its database is slow, refuses, or goes away."""

import os

import pymongo
import pytest
from pymongo.errors import NetworkTimeout, OperationFailure
from tollgate_faults import fault

ORDERS = {"resource": "shop.orders"}


@pytest.fixture
def orders():
    url = os.environ.get("MONGODB_URL", "mongodb://127.0.0.1:27018/")
    with pymongo.MongoClient(url, socketTimeoutMS=500, appName="checkout") as client:
        client.shop.orders.drop()
        yield client.shop.orders


def test_a_slow_database_is_not_waited_for(orders):
    with fault(match={**ORDERS, "operation": "find"}, fault={"delay": "2s"}):
        with pytest.raises(NetworkTimeout):
            orders.find_one()
    assert orders.find_one() is None


def test_an_order_is_stored_once_though_the_connection_breaks(orders):
    with fault(match={**ORDERS, "operation": "insert"}, fault={"close": "reply", "times": 1}):
        orders.insert_one({"_id": 7})
    assert orders.count_documents({}) == 1


def test_a_write_that_is_forbidden_is_told(orders):
    with fault(match={**ORDERS, "operation": ["insert", "update"]}, deny={"message": "closed"}):
        with pytest.raises(OperationFailure, match="closed"):
            orders.insert_one({"_id": 8})
