use super::{
    keys::Secret,
    message::{ClientFinal, ServerFirst, parse_server_final},
    *,
};
use crate::dice::Dice;
use std::sync::Arc;
use zeroize::Zeroizing;

/// An exchange in a specification: the two nonces, the salt and iterations, the proof, and the signature.
struct Vector {
    mechanism: Mechanism,
    client_nonce: &'static str,
    server_nonce: &'static str,
    salt: &'static str,
    iterations: u32,
    proof: &'static str,
    signature: &'static str,
}

/// RFC 5802, section 5. MongoDB hashes passwords before it uses them so.
const RFC_5802: Vector = Vector {
    mechanism: Mechanism::ScramSha1,
    client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
    server_nonce: "3rfcNHYJY1ZVvWVs7j",
    salt: "QSXCR+Q6sek8bf92",
    iterations: 4096,
    proof: "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    signature: "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
};

/// The driver specification `auth`, SCRAM-SHA-1.
const MONGODB_SHA_1: Vector = Vector {
    mechanism: Mechanism::ScramSha1,
    client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
    server_nonce: "Ho+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE",
    salt: "rQ9ZY3MntBeuP3E1TDVC4w==",
    iterations: 10_000,
    proof: "MC2T8BvbmWRckDw8oWl5IVghwCY=",
    signature: "UMWeI25JD1yNYZRMpZ4VHvhZ9e0=",
};

/// RFC 7677, section 3, and the driver specification `auth`, SCRAM-SHA-256.
const RFC_7677: Vector = Vector {
    mechanism: Mechanism::ScramSha256,
    client_nonce: "rOprNGfwEbeRWgbNEkqO",
    server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
    iterations: 4096,
    proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.to_owned()))
}

impl Vector {
    fn salt(&self) -> Vec<u8> {
        message::decode(self.salt).unwrap()
    }

    fn server_first(&self) -> String {
        let Self { client_nonce, server_nonce, salt, iterations, .. } = self;
        format!("r={client_nonce}{server_nonce},s={salt},i={iterations}")
    }

    fn client_final(&self) -> String {
        let Self { client_nonce, server_nonce, proof, .. } = self;
        format!("c=biws,r={client_nonce}{server_nonce},p={proof}")
    }

    fn server_final(&self) -> String {
        format!("v={}", self.signature)
    }

    /// The verifier, and the client's key.
    fn keys(&self, prepared_password: &[u8]) -> (Arc<Verifier>, Secret) {
        let Self { mechanism, iterations, .. } = *self;
        let salted = mechanism.salted_password(prepared_password, &self.salt(), iterations);
        let client_key = mechanism.client_key(&salted);
        let verifier = Verifier {
            mechanism,
            salt: self.salt(),
            iterations,
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.server_key(&salted),
        };
        (Arc::new(verifier), client_key)
    }

    /// Holds both sides against the vector.
    fn check(&self, prepared_password: &[u8], secret: &ClientSecret) {
        let mut client =
            ClientExchange::begin(self.mechanism, "user", self.client_nonce.to_owned());
        let first = format!("n,,n=user,r={}", self.client_nonce);
        assert_eq!(client.client_first(), first.as_bytes());
        let proof = client.prove(self.server_first().as_bytes(), secret).unwrap();
        assert_eq!(proof, self.client_final().as_bytes());
        client.finish(self.server_final().as_bytes()).unwrap();

        let (verifier, _) = self.keys(prepared_password);
        let server = self.server(verifier);
        assert_eq!(server.server_first(), self.server_first().as_bytes());
        let proven = server.finish(self.client_final().as_bytes()).unwrap();
        assert_eq!(proven.server_final, self.server_final().as_bytes());
    }

    fn server(&self, verifier: Arc<Verifier>) -> ServerExchange {
        let first = format!("n,,n=user,r={}", self.client_nonce);
        let first = ClientFirst::parse(first.as_bytes()).unwrap();
        ServerExchange::begin(&first, verifier, self.server_nonce)
    }
}

#[test]
fn both_sides_follow_rfc_5802() {
    let (verifier, client_key) = RFC_5802.keys(b"pencil");
    RFC_5802.check(b"pencil", &ClientSecret::from_proof(&verifier, client_key));
}

#[test]
fn both_sides_follow_rfc_7677() {
    RFC_7677.check(b"pencil", &password("pencil").into());
}

#[test]
fn sha_1_uses_the_digest_of_the_password() {
    let prepared = password("pencil").prepared(Mechanism::ScramSha1, "user");
    MONGODB_SHA_1.check(&prepared, &password("pencil").into());
}

#[test]
fn passwords_are_prepared_as_rfc_4013_demands() {
    let prepared = |text: &str| {
        let prepared = password(text).prepared(Mechanism::ScramSha256, "user");
        String::from_utf8(prepared.to_vec()).unwrap()
    };
    // The examples of RFC 4013, section 3, and of the driver specification.
    assert_eq!(prepared("I\u{ad}X"), "IX");
    assert_eq!(prepared("user"), "user");
    assert_eq!(prepared("\u{aa}"), "a");
    assert_eq!(prepared("\u{2168}"), "IX");
    assert_eq!(prepared("\u{1680}x"), " x");
}

#[test]
fn a_key_from_a_proof_logs_in_elsewhere() {
    let (verifier, _) = RFC_7677.keys(b"pencil");
    let proven = RFC_7677.server(verifier).finish(RFC_7677.client_final().as_bytes()).unwrap();
    // The same user, another exchange.
    let (verifier, _) = RFC_7677.keys(b"pencil");
    let mut client = ClientExchange::begin(Mechanism::ScramSha256, "user", "mine".to_owned());
    let first = ClientFirst::parse(&client.client_first()).unwrap();
    let server = ServerExchange::begin(&first, verifier, "theirs");
    let proof = client.prove(server.server_first(), &proven.secret).unwrap();
    client.finish(&server.finish(&proof).unwrap().server_final).unwrap();
}

#[test]
fn a_key_is_of_no_use_for_another_password() {
    let (verifier, client_key) = RFC_7677.keys(b"pencil");
    let secret = ClientSecret::from_proof(&verifier, client_key);
    let mut client = ClientExchange::begin(Mechanism::ScramSha256, "user", "mine".to_owned());
    let first = "r=mine1,s=c2FsdA==,i=4096";
    assert_eq!(client.prove(first.as_bytes(), &secret), Err(SaslError::OtherPassword));
}

/// How the server's side ends with this last message.
fn finish(client_final: &str) -> SaslError {
    let (verifier, _) = RFC_7677.keys(b"pencil");
    RFC_7677.server(verifier).finish(client_final.as_bytes()).err().unwrap()
}

#[test]
fn only_the_right_proof_logs_in() {
    let right = RFC_7677.client_final();
    assert_eq!(finish(&right.replace("p=dH", "p=dI")), SaslError::WrongProof);
    let (verifier, _) = RFC_7677.keys(b"other");
    let other = RFC_7677.server(verifier).finish(right.as_bytes()).err();
    assert_eq!(other, Some(SaslError::WrongProof));
    for at in 0..right.len() {
        assert_ne!(finish(&right[..at]), SaslError::WrongProof, "{}", &right[..at]);
    }
}

#[test]
fn a_replayed_proof_does_not_log_in() {
    let (verifier, _) = RFC_7677.keys(b"pencil");
    let first = format!("n,,n=user,r={}", RFC_7677.client_nonce);
    let first = ClientFirst::parse(first.as_bytes()).unwrap();
    let again = ServerExchange::begin(&first, verifier, "another-nonce");
    let recorded = RFC_7677.client_final();
    assert_eq!(again.finish(recorded.as_bytes()).err(), Some(SaslError::Nonce));
}

#[test]
fn channel_binding_is_refused() {
    for first in ["y,,n=user,r=abc", "p=tls-unique,,n=user,r=abc", "p=,,n=user,r=abc"] {
        let parsed = ClientFirst::parse(first.as_bytes());
        assert_eq!(parsed, Err(SaslError::ChannelBinding), "{first}");
    }
    let bound = RFC_7677.client_final().replace("c=biws", "c=eSws");
    assert_eq!(finish(&bound), SaslError::ChannelBinding);
}

#[test]
fn first_messages_of_clients_are_read_strictly() {
    let parse = |message: &str| ClientFirst::parse(message.as_bytes());
    assert_eq!(parse("n,,n=a=2Cb=3Dc,r=abc").unwrap().user, "a,b=c");
    assert_eq!(parse("n,a=root,n=user,r=abc"), Err(SaslError::AuthorizationIdentity));
    let long = format!("n,,n={},r=abc", "x".repeat(MAX_SASL_MESSAGE));
    for wrong in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=,r=abc",
        "n,,n=a=b,r=abc",
        "n,,n=a=2c,r=abc",
        "n,,n=a=\u{e9},r=abc",
        "n,,r=abc,n=user",
        "n,,m=x,n=user,r=abc",
        "n,,n=user,r=abc,x=y",
        "n,,n=user,r=a c",
        "n,,n=us\0er,r=abc",
        "N,,n=user,r=abc",
        &long,
    ] {
        assert_eq!(parse(wrong), Err(SaslError::Malformed), "{wrong}");
    }
    assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=abc"), Err(SaslError::Malformed));
}

#[test]
fn servers_must_extend_the_nonce_of_the_client() {
    let secret = ClientSecret::from(password("pencil"));
    let prove = |nonce: &str| {
        let mut client = ClientExchange::begin(Mechanism::ScramSha256, "user", "mine".to_owned());
        client.prove(format!("r={nonce},s=c2FsdA==,i=4096").as_bytes(), &secret).err()
    };
    assert_eq!(prove("mine"), Some(SaslError::Nonce));
    assert_eq!(prove("other"), Some(SaslError::Nonce));
    assert_eq!(prove("mine2"), None);
}

#[test]
fn few_and_countless_iterations_are_refused() {
    let parse = |iterations: &str| {
        ServerFirst::parse(format!("r=abc,s=c2FsdA==,i={iterations}").as_bytes()).err()
    };
    assert_eq!(parse("4096"), None);
    for weak in ["1", "4095", "1000001", "4294967295"] {
        assert_eq!(parse(weak), Some(SaslError::Iterations), "{weak}");
    }
    for wrong in ["", "-1", "+4096", "04096", "4294967296", "4096.0"] {
        assert_eq!(parse(wrong), Some(SaslError::Malformed), "{wrong}");
    }
}

#[test]
fn a_server_that_does_not_know_the_user_is_not_trusted() {
    let mut client =
        ClientExchange::begin(Mechanism::ScramSha256, "user", RFC_7677.client_nonce.to_owned());
    let signature = RFC_7677.server_final();
    assert_eq!(client.finish(signature.as_bytes()), Err(SaslError::ServerSignature));
    client.prove(RFC_7677.server_first().as_bytes(), &password("pencil").into()).unwrap();
    for wrong in ["v=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="] {
        assert!(client.finish(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert_eq!(client.finish(b"e=invalid-proof"), Err(SaslError::Refused));
    assert_eq!(client.finish(signature.as_bytes()), Ok(()));
}

#[test]
fn a_written_verifier_is_that_of_the_password() {
    let (verifier, _) = RFC_7677.keys(b"pencil");
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert!(Verifier::parse(text).as_ref() == Some(&*verifier));
    for wrong in [
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512$4096:c2FsdA==$a:b",
        "SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:c2hvcnQ=",
        &text.replace("4096", "0"),
        &text.replace("4096", "4000000"),
        &text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        &format!("{text}:"),
    ] {
        assert!(Verifier::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_new_verifier_accepts_its_password() {
    for mechanism in Mechanism::ALL {
        let salt = Verifier::new_salt(mechanism).unwrap();
        let verifier = Verifier::of_password(mechanism, "ann", &password("s3cret"), salt);
        let mut client = ClientExchange::begin(mechanism, "ann", new_nonce().unwrap());
        let first = ClientFirst::parse(&client.client_first()).unwrap();
        let server = ServerExchange::begin(&first, Arc::new(verifier), &new_nonce().unwrap());
        let proof = client.prove(server.server_first(), &password("s3cret").into()).unwrap();
        client.finish(&server.finish(&proof).unwrap().server_final).unwrap();
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (verifier, client_key) = RFC_7677.keys(b"pencil");
    let secrets = [
        ClientSecret::from(password("pencil")),
        ClientSecret::from_proof(&verifier, client_key.clone()),
    ];
    let shown = format!("{secrets:?} {:?} {verifier:?}", password("pencil"));
    assert!(!shown.contains("pencil"), "{shown}");
    let salt = verifier.encoded_salt();
    assert!(!shown.contains(&salt) && !shown.contains(&format!("{:?}", *client_key)), "{shown}");
}

#[test]
fn mutated_messages_never_log_in() {
    let rounds = std::env::var("CODEC_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let seed = rounds.map_or(18, |_: u64| fastrand::u64(..));
    let mut dice = Dice::new(seed);
    let messages = [
        format!("n,,n=user,r={}", RFC_7677.client_nonce),
        RFC_7677.server_first(),
        RFC_7677.client_final(),
        RFC_7677.server_final(),
    ];
    let (verifier, _) = RFC_7677.keys(b"pencil");
    let right = ClientFinal::parse(messages[2].as_bytes()).unwrap();
    for round in 0..rounds.unwrap_or(20_000) {
        let mut bytes = messages[dice.below(4)].clone().into_bytes();
        dice.mutate(&mut bytes);
        let _ = ClientFirst::parse(&bytes);
        let _ = ServerFirst::parse(&bytes);
        let _ = parse_server_final(&bytes);
        let logged_in = RFC_7677.server(Arc::clone(&verifier)).finish(&bytes).is_ok();
        let is_right = ClientFinal::parse(&bytes).is_ok_and(|last| last == right);
        assert_eq!(logged_in, is_right, "seed {seed}, round {round}: {bytes:?}");
    }
}
