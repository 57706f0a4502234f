// Makes a MongoDB server busy in one chosen way; runs on the Node.js driver, version 7.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The driver is found from where the script is run, not from where it lies.
const require = createRequire(pathToFileURL(process.cwd() + "/"));
const { MongoClient } = require("mongodb");
const [uri, scenario] = process.argv.slice(2);

const fails = async (action) => {
  try {
    await action();
  } catch {
    return;
  }
  throw new Error("an error was expected");
};

const scenarios = {
  async crud(client) {
    const orders = client.db("shop").collection("orders");
    await orders.insertOne({ _id: 1, status: "new", total: 12.5 });
    await orders.insertMany([2, 3, 4, 5].map((_id) => ({ _id, status: "new" })));
    await orders.find({ status: "new" }, { comment: "checkout" }).toArray();
    await orders.updateMany({ status: "new" }, { $inc: { tries: 1 } });
    await orders.findOneAndUpdate({ _id: 2 }, { $set: { status: "paid" } });
    await orders.deleteOne({ _id: 5 });
    await orders.find({}, { batchSize: 2 }).toArray();
    await orders.aggregate([{ $match: { status: "paid" } }]).toArray();
    await fails(() => orders.insertOne({ _id: 1 }));
  },
  async unacknowledged(client) {
    const orders = client.db("shop").collection("orders", { writeConcern: { w: 0 } });
    await orders.insertMany([{ _id: 1 }, { _id: 2 }]);
    await client.db("admin").command({ ping: 1 });
  },
  async transaction(client) {
    const orders = client.db("shop").collection("orders");
    await orders.insertOne({ _id: 0 });
    await client.withSession((session) =>
      session.withTransaction(() => orders.insertOne({ _id: 1 }, { session })),
    );
  },
  async bulk(client) {
    await client.bulkWrite([
      { name: "insertOne", namespace: "shop.orders", document: { _id: 1 } },
      { name: "insertOne", namespace: "shop.prices", document: { _id: 1 } },
    ]);
  },
  async monitor(client) {
    await client.db("admin").command({ ping: 1 });
    await new Promise((resolve) => setTimeout(resolve, 1500));
  },
  async login(client) {
    await client.db("shop").collection("orders").insertOne({ _id: 1 });
  },
};

const options = { directConnection: true, maxPoolSize: 1, appName: "fixtures" };
if (scenario === "monitor") options.heartbeatFrequencyMS = 500;
if (scenario === "login") options.auth = { username: "alice", password: "throwaway" };
const client = new MongoClient(uri, options);
await client.connect();
await scenarios[scenario](client);
await client.close();
