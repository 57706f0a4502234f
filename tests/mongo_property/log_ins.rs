//! The user is known however the login is spelled, and that hiding a name gains no allowance.

use super::{
    Saw, Trial,
    commands::{Command, named_after, one},
    effort, hex, rng,
    spelling::{Spelled, plainly, wildly},
    value::{Value, fields},
};
use fastrand::Rng;
use std::collections::HashMap;

/// What hiding may gain in all: what is not known, and what is about several things, shares one
/// allowance, which may be had beside each one's own.
const SHARED: usize = 3;

/// A log-in in one of the ways that there are.
fn log_in(rng: &mut Rng, user: &str, database: &str) -> Command {
    let scram = [
        ("saslStart", 1.into()),
        ("mechanism", "SCRAM-SHA-256".into()),
        ("payload", Value::Bytes(format!("n,,n={user},r=abc").into_bytes())),
    ];
    let plain = [
        ("saslStart", 1.into()),
        ("mechanism", "PLAIN".into()),
        ("payload", Value::Bytes(format!("\0{user}\0secret").into_bytes())),
    ];
    let mut step = fields(one(rng, &[scram, plain]));
    match rng.u8(..4) {
        0 => {
            let x509 = [
                ("authenticate", 1.into()),
                ("mechanism", "MONGODB-X509".into()),
                ("user", user.into()),
            ];
            Command::new(database, fields(x509))
        }
        1 => Command::new(database, step),
        _ => {
            step.push(("db".into(), database.into()));
            let word = one(rng, &["hello", "isMaster", "ismaster"]);
            let asked = [(word, 1.into()), ("speculativeAuthenticate", Value::Document(step))];
            Command::new("admin", fields(asked))
        }
    }
}

fn count() -> Command {
    Command::new("shop", fields([("count", "orders".into()), ("query", [("a", 1.into())].into())]))
}

/// Plainly or not.
fn spelled(rng: &mut Rng, id: i32, plain: bool, command: &Command) -> Spelled {
    if plain { plainly(rng, id, command) } else { wildly(rng, id, command) }
}

/// Tries a guard that goes by the user with log-ins of all kinds.
fn try_users(policy: &str, forbids: fn(&Saw) -> bool) {
    let policy = format!("{{ name: guard, {policy} }}");
    let Some(mut trial) = Trial::begin(&policy) else { return };
    let (sessions, first) = effort(150);
    let (mut forbidden, mut clean, mut wrong) = (0, 0, Vec::new());
    for seed in first..first + sessions {
        let rng = &mut rng(seed);
        trial.reconnect();
        let plain = rng.u8(..3) == 0;
        let mut messages = Vec::new();
        for id in 0..if plain { 1 } else { rng.i32(1..3) } {
            let (user, database) = (one(rng, &["root", "mallory"]), one(rng, &["admin", "hr"]));
            let command = log_in(rng, user, database);
            messages.push(spelled(rng, 10 + id, plain, &command));
        }
        messages.push(spelled(rng, 20, plain, &count()));
        let (mut direct, mut behind) = (None, Vec::new());
        for message in &messages {
            direct = trial.seen_directly(message);
            behind = trial.seen_behind(message, rng);
        }
        let counts = |saw: &Saw| saw.operation == "count" && forbids(saw);
        let forbids = direct.as_ref().is_some_and(counts);
        let what = match behind.iter().find(|saw| counts(saw)) {
            Some(saw) => format!("it is forbidden, and was answered: {saw:?}"),
            None if plain && !forbids && behind.is_empty() => format!("it is allowed: {direct:?}"),
            None => String::new(),
        };
        forbidden += u64::from(forbids);
        clean += u64::from(plain && !forbids);
        if !what.is_empty() {
            let all: Vec<_> = messages.iter().map(|message| hex(&message.bytes)).collect();
            wrong.push(format!("seed {seed}: {what}\n{}", all.join("\n")));
        }
    }
    let some = wrong.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {sessions} sessions, {policy}\n{some}", wrong.len());
    assert!(forbidden * 10 > sessions, "only {forbidden} of {sessions} are forbidden");
    assert!(clean * 20 > sessions, "only {clean} of {sessions} are plain and allowed");
}

#[test]
fn no_spelling_imitates_the_exempt_user() {
    let policy = "match: { operation: count, not: { user: root@admin } }, deny: {}";
    try_users(policy, |saw| saw.user.as_deref() != Some("root@admin"));
}

#[test]
fn a_denied_user_hides_behind_no_spelling() {
    let policy = "match: { operation: count, user: mallory@admin }, deny: {}";
    try_users(policy, |saw| saw.user.as_deref() == Some("mallory@admin"));
}

/// What was had by each that has an allowance of one.
#[derive(Default)]
struct Had {
    by: HashMap<String, usize>,
    /// Answers beyond each one's first.
    beyond: Vec<String>,
}

impl Had {
    fn note(&mut self, names: &[String], seed: u64, spelled: &Spelled) {
        let before = |name: &String| self.by.get(name).copied().unwrap_or_default();
        if names.iter().map(before).max() >= Some(1) {
            self.beyond.push(format!("seed {seed}: {names:?}\n{}", hex(&spelled.bytes)));
        }
        for name in names {
            *self.by.entry(name.clone()).or_default() += 1;
        }
    }

    fn check(&self, policy: &str) {
        let (beyond, some) = (self.beyond.len(), self.beyond.join("\n"));
        assert!(beyond <= SHARED, "{beyond} too many for {policy}\n{some}");
    }
}

#[test]
fn a_user_has_one_allowance_however_the_log_in_is_spelled() {
    let policy = "{ name: limit, match: { operation: count }, \
                  rate_limit: { rate: 1/d, burst: 1, key: [user] } }";
    let Some(mut trial) = Trial::begin(policy) else { return };
    let (sessions, first) = effort(60);
    let (mut had, mut seen) = (Had::default(), 0);
    for seed in first..first + sessions {
        let rng = &mut rng(seed);
        for round in 0..5 {
            trial.reconnect();
            let plain = round == 0;
            let user = if plain { format!("user{seed}") } else { format!("root{seed}") };
            let command = log_in(rng, &user, "admin");
            let step = spelled(rng, 10, plain, &command);
            trial.seen_behind(&step, rng);
            let asked = spelled(rng, 20, plain, &count());
            for saw in trial.seen_behind(&asked, rng).iter().filter(|it| it.operation == "count") {
                // No user, if the login was refused or has ended.
                if let Some(user) = &saw.user {
                    seen += 1;
                    had.note(std::slice::from_ref(user), seed, &step);
                }
            }
            let own = had.by.contains_key(&format!("user{seed}@admin"));
            assert!(own, "seed {seed}: the first count of user{seed} is refused");
        }
    }
    had.check(policy);
    assert!(seen >= sessions, "only {seen} counts in {sessions} sessions");
}

#[test]
fn a_database_has_one_allowance_however_a_request_is_spelled() {
    let policy = "{ name: limit, match: { not: { operation: [hello, find, ping] } }, \
                  rate_limit: { rate: 1/d, burst: 1, key: [database] } }";
    let Some(mut trial) = Trial::begin(policy) else { return };
    let (rounds, first) = effort(60);
    let (mut had, mut seen) = (Had::default(), 0);
    for seed in first..first + rounds {
        let rng = &mut rng(seed);
        for id in 0..6 {
            let plain = id == 0;
            let database = if plain { format!("db{seed}") } else { "audit".to_owned() };
            let command = match plain {
                true => Command::new(&database, fields([("count", "orders".into())])),
                false => Command::any(rng),
            };
            let command = named_after(&command, seed);
            let asked = spelled(rng, 10 + id, plain, &command);
            for saw in trial.seen_behind(&asked, rng) {
                // All commands of an administrator are about one database.
                let mut databases = saw.databases.clone();
                databases.retain(|name| name != "admin");
                if saw.operation != "find" && !databases.is_empty() {
                    seen += 1;
                    had.note(&databases, seed, &asked);
                }
            }
            let own = had.by.contains_key(&format!("db{seed}"));
            assert!(own, "seed {seed}: the first request to db{seed} is refused");
        }
    }
    had.check(policy);
    assert!(seen >= rounds, "only {seen} requests in {rounds} rounds");
}
