//! What fuzzing found, and the inputs that reach the most code, are survived once more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]
#![allow(clippy::print_stdout, reason = "that tells which input failed")]

mod hello;
mod login;
mod targets;

use operation::testing::{Fixture, Side, fuzz, load};
use std::{fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Gives a target every input that is kept for it, and its seeds.
fn replay(name: &str, target: fn(&[u8])) {
    let kept = root().join("fixtures/fuzz").join(name);
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to play again");
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        target(&fs::read(path).unwrap());
    }
    for (seed, bytes) in seeds(name) {
        println!("the seed {seed}");
        target(&bytes);
    }
}

#[test]
fn whatever_a_client_says_is_survived() {
    replay("mongo_client", targets::client);
}

#[test]
fn whatever_a_server_says_is_survived() {
    replay("mongo_server", targets::server);
}

#[test]
fn whatever_both_say_is_read_alike_whole_and_cut() {
    replay("mongo_conversation", targets::conversation);
}

#[test]
fn whatever_is_compressed_is_read_as_if_it_were_not() {
    replay("decompress", targets::decompress);
}

#[test]
fn only_compressors_and_addresses_of_a_hello_change() {
    replay("mongo_hello", hello::hello);
}

#[test]
fn messages_of_a_fuzzer_never_log_in() {
    replay("mongo_login", login::login);
}

#[test]
fn mutated_messages_of_log_ins_never_log_in() {
    let rounds = std::env::var("CODEC_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let seed = rounds.map_or(18, |_: u64| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let seeds = login::seeds();
    for round in 0..rounds.unwrap_or(5_000) {
        let (name, mut bytes) = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..=random.usize(..4) {
            let at = random.usize(2..bytes.len().max(3));
            match bytes.get_mut(at) {
                Some(byte) => *byte = random.u8(..),
                None => bytes.push(random.u8(..)),
            }
        }
        println!("seed {seed}, round {round}: {name} {bytes:?}");
        login::login(&bytes);
    }
}

/// What a target begins with: recordings, in the form that it reads, each with a name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let recordings = load(root().join("fixtures/mongo")).unwrap();
    let each = |seed: fn(&Fixture) -> Vec<u8>| {
        recordings.iter().map(|recording| (recording.name.clone(), seed(recording))).collect()
    };
    match target {
        "mongo_client" => each(|recording| targets::said(recording, Side::Client)),
        "mongo_server" => {
            let place = |name: &str| targets::RECORDINGS.iter().position(|r| r.0 == name);
            let seed = |recording: &Fixture| {
                let mut seed = vec![place(&recording.name)? as u8];
                seed.extend(targets::said(recording, Side::Upstream));
                Some((recording.name.clone(), seed))
            };
            let plain: Vec<(String, Vec<u8>)> = recordings.iter().filter_map(seed).collect();
            let late = plain.iter().map(|(name, seed)| {
                let mut late = seed.clone();
                late[0] += targets::RECORDINGS.len() as u8 * 0b10110;
                (format!("{name}-late"), late)
            });
            late.chain(plain.clone()).collect()
        }
        "mongo_conversation" => each(|recording| fuzz::script(recording, 11)),
        "decompress" => recordings.iter().flat_map(compressed).collect(),
        "mongo_login" => login::seeds(),
        "mongo_hello" => recordings.iter().flat_map(greetings).collect(),
        _ => panic!("no such target: {target}"),
    }
}

/// The insides of a recording's compressed messages.
fn compressed(recording: &Fixture) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for turn in &recording.turns {
        let mut rest = &turn.bytes[..];
        while let Some(len) = rest.first_chunk().map(|len| u32::from_le_bytes(*len) as usize) {
            let Some((message, after)) = rest.split_at_checked(len.max(16)) else { break };
            if message[12..16] == 2012_i32.to_le_bytes() {
                found.push((format!("{}-{}", recording.name, found.len()), message[16..].into()));
            }
            rest = after;
        }
    }
    found
}

/// The document of each recorded `hello` that is plain, and of each reply to one, with each of a
/// few settings.
fn greetings(recording: &Fixture) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for turn in recording.turns.iter().take(2) {
        let reply = turn.from == Side::Upstream;
        let message = &turn.bytes;
        let (legacy, at) = match message[12..16].first_chunk().map(|it| i32::from_le_bytes(*it)) {
            Some(2013) => (0, 21),
            Some(1) => (hello::LEGACY, 36),
            // The collection's name is `admin.$cmd`.
            Some(2004) => (hello::LEGACY, 39),
            _ => continue,
        };
        let len = u32::from_le_bytes(*message[at..].first_chunk().unwrap()) as usize;
        for settings in [0, 4, 9] {
            let how = hello::RAW | legacy | if reply { hello::REPLY } else { 0 };
            let name = format!("{}-{settings}-{}", recording.name, found.len());
            found.push((name, [&[how, settings], &message[at..at + len]].concat()));
        }
    }
    found
}

/// Not a test: `cargo test -p mongo --test fuzz -- --ignored` writes the seeds where the fuzzer
/// looks for them.
#[test]
#[ignore = "writes seeds for the fuzzer to begin with"]
fn seeds_are_written_for_the_fuzzer() {
    let targets = [
        "mongo_client",
        "mongo_server",
        "mongo_conversation",
        "mongo_hello",
        "mongo_login",
        "decompress",
    ];
    for target in targets {
        let corpus = root().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).unwrap();
        for (name, bytes) in seeds(target) {
            fs::write(corpus.join(name), bytes).unwrap();
        }
    }
}
