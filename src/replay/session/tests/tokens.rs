//! Tokens signed with private keys are verified with the public ones.

use super::super::*;
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{self, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};
use rcgen::{KeyPair, PublicKeyData};
use std::path::Path;

fn written(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A token of this algorithm, sent again with this key: what is signed, and the signature.
fn renewed(algorithm: &str, key: &str) -> (String, Vec<u8>) {
    let part = |json: String| base64::encode(json.as_bytes());
    let head = part(format!(r#"{{"alg":"{algorithm}","kid":"k1"}}"#));
    let token = format!("{head}.{}.AAAA", part(r#"{"sub":"u","exp":4600}"#.into()));
    let keys = vec![Key::parse(key).unwrap()];
    let config = Config { jwt_keys: keys, now_ns: Some(50_000_000_000_000), ..Config::default() };
    let mut sessions = Sessions::new(config, "run-1");
    let recorded = Entry { started_ns: 1_200_000_000_000, ..Entry::default() };
    let fields = vec![Field::new("authorization", format!("Bearer {token}"))];
    let mut sent =
        Request { head: RequestHead { fields, ..RequestHead::default() }, body: Bytes::new(), pass: 0 };
    sessions.rewrite(1, &recorded, &mut sent);
    assert_eq!(sessions.counts().signed, 1, "{algorithm}");
    let value = std::str::from_utf8(&sent.head.fields[0].value).unwrap().strip_prefix("Bearer ").unwrap();
    let (signed, tag) = value.rsplit_once('.').unwrap();
    let (kept, claims) = signed.split_once('.').unwrap();
    assert_eq!(kept, head, "the head stays, with its kid");
    assert_eq!(base64::decode(claims).unwrap(), br#"{"sub":"u","exp":53400}"#);
    (signed.to_owned(), base64::decode(tag).unwrap())
}

#[test]
fn a_token_of_each_algorithm_is_verified_with_the_public_key() {
    let directory = tempfile::tempdir().unwrap();
    let of = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let rsa = of(&rcgen::PKCS_RSA_SHA256);
    let (p256, p384) = (of(&rcgen::PKCS_ECDSA_P256_SHA256), of(&rcgen::PKCS_ECDSA_P384_SHA384));
    let ed25519 = of(&rcgen::PKCS_ED25519);
    let rows: [(&str, &KeyPair, &'static dyn VerificationAlgorithm); 9] = [
        ("RS256", &rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
        ("RS384", &rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
        ("RS512", &rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
        ("PS256", &rsa, &signature::RSA_PSS_2048_8192_SHA256),
        ("PS384", &rsa, &signature::RSA_PSS_2048_8192_SHA384),
        ("PS512", &rsa, &signature::RSA_PSS_2048_8192_SHA512),
        ("ES256", &p256, &signature::ECDSA_P256_SHA256_FIXED),
        ("ES384", &p384, &signature::ECDSA_P384_SHA384_FIXED),
        ("EdDSA", &ed25519, &signature::ED25519),
    ];
    for (name, pair, verification) in rows {
        let path = written(directory.path(), "key.pem", &pair.serialize_pem());
        let (signed, tag) = renewed(name, &format!("{name}:@{path}"));
        let public = UnparsedPublicKey::new(verification, pair.der_bytes());
        public.verify(signed.as_bytes(), &tag).unwrap_or_else(|_| panic!("{name}"));
        assert!(public.verify(format!("{signed}x").as_bytes(), &tag).is_err(), "{name}");
    }
}

#[test]
fn an_ec_key_as_openssl_writes_it_is_read() {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
    let mut text = base64::encode(der.as_ref()).replace('-', "+").replace('_', "/");
    text.push_str(&"=".repeat((4 - text.len() % 4) % 4));
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", lines.join("\n"));
    let directory = tempfile::tempdir().unwrap();
    let (signed, tag) = renewed("ES256", &format!("ES256:@{}", written(directory.path(), "sec1.pem", &pem)));
    let public = signature::KeyPair::public_key(&pair).as_ref();
    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, public)
        .verify(signed.as_bytes(), &tag)
        .unwrap();
}

#[test]
fn a_wrong_key_says_what_is_wrong_and_shows_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| written(directory.path(), name, text);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let secret = p384.serialize_pem();
    let private = write("p384.pem", &secret);
    let public = write("public.pem", &p384.public_key_pem());
    let encrypted = write(
        "sealed.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let empty = write("empty.pem", "");
    for (key, why) in [
        (format!("ES256:@{private}"), "ES256 needs an EC key on P-256"),
        (format!("RS256:@{private}"), "RS256 needs an RSA key of 2048 bits or more"),
        (format!("EdDSA:@{private}"), "EdDSA needs an Ed25519 key"),
        (format!("ES384:@{public}"), "there is a public key only, which cannot sign"),
        (format!("ES384:@{encrypted}"), "the key is encrypted"),
        (format!("PS512:@{empty}"), "no private key in PEM is in it"),
        (format!("HS256:@{empty}"), "the secret is empty"),
        ("RS256:abc".into(), "RS256 takes a private key in a PEM file: RS256:@key.pem"),
        ("RS256:@/nowhere/key.pem".into(), "/nowhere/key.pem: "),
        ("XS256:abc".into(), "`XS256` is not an algorithm known here"),
    ] {
        let told = Key::parse(&key).unwrap_err();
        assert!(told.contains(why) && !told.contains('\n'), "{key}: {told}");
        assert!(secret.lines().skip(1).take(2).all(|line| !told.contains(line)), "{told}");
    }
}
