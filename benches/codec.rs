//! What reading costs: a request and its reply through the MongoDB codec, and nothing else.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use criterion::{Criterion, criterion_group, criterion_main};
use mongo::{Mongo, MongoListener};
use operation::{Codec, ConnectionInfo, Next};
use peers::wire;
use std::{hint::black_box, net::SocketAddr, sync::Arc};

/// How many bytes a relay has in hand at most.
const READ: usize = 64 * 1024;

fn operations(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("codec");
    for (name, request) in [
        ("ping", wire::ping(1)),
        ("find", wire::find(1)),
        ("query", wire::query(1)),
        ("insert-1k", wire::insert(1, 1024)),
        ("insert-64k", wire::insert(1, 64 * 1024)),
        ("reply-1m", wire::find_large(1)),
    ] {
        let mut reply = Vec::new();
        wire::Replies::default().answer(&request, &mut reply);
        let here = SocketAddr::from(([127, 0, 0, 1], 27017));
        let listener = Arc::new(MongoListener::default());
        let mut codec = Mongo::new(&listener, ConnectionInfo { peer: here, local: here });
        // The first one makes room for those that follow.
        operation(&mut codec, &request, &reply);
        group.bench_function(name, |bench| bench.iter(|| measured(&mut codec, &request, &reply)));
    }
    group.finish();
}

/// One operation, as a function of its own so that valgrind can count it by name.
#[inline(never)]
fn measured(codec: &mut Mongo, request: &[u8], reply: &[u8]) {
    operation(codec, request, reply);
}

fn operation(codec: &mut Mongo, request: &[u8], reply: &[u8]) {
    pass(request, |bytes| codec.request(bytes).unwrap());
    black_box(codec.names(request));
    pass(reply, |bytes| codec.reply(bytes).unwrap());
    black_box(codec.attribute(request, "callsite"));
}

/// Shows `message` to a codec as it would arrive, until the whole of it has passed.
fn pass<M>(message: &[u8], mut judge: impl FnMut(&[u8]) -> Next<M>) {
    let mut at = 0;
    while at < message.len() {
        let here = &message[at..message.len().min(at + READ)];
        at += match black_box(judge(here)) {
            Next::Hold(wanted) => unreachable!("{wanted} bytes wanted of {}", here.len()),
            Next::Pass { len, .. } | Next::PassUnsolicited { len, .. } | Next::Drop { len, .. } => {
                usize::try_from(len).unwrap()
            }
            Next::Swap { len, .. } | Next::Answer { len, .. } | Next::Resend { len, .. } => len,
            Next::Violates(violation) => unreachable!("{violation}"),
        };
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
