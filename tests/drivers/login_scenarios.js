// Users of node's driver who log in at the proxy: login_scenarios.js PROXY.

const { MongoClient } = require("mongodb");

const proxy = process.argv[2];

async function find(login) {
  const client = new MongoClient(`mongodb://${login}${proxy}/?authSource=admin`, {
    serverSelectionTimeoutMS: 15000,
  });
  try {
    await client.db("shop").collection("orders").findOne({});
    const status = await client.db("admin").command({ connectionStatus: 1 });
    return status.authInfo.authenticatedUsers.map((user) => user.user);
  } catch (error) {
    return error.code;
  } finally {
    await client.close();
  }
}

async function main() {
  const expected = [
    ["alice:hunter-two-secret@", ["alice"]],
    ["alice:hunter-three-wrong@", 18],
    ["eve:hunter-two-secret@", 18],
  ];
  for (const [login, outcome] of expected) {
    const found = await find(login);
    if (JSON.stringify(found) !== JSON.stringify(outcome)) {
      throw new Error(`${login}: ${JSON.stringify(found)}`);
    }
  }
}

main();
