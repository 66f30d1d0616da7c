use super::*;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// The key of AWS's test suite.
const SUITE: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
/// The key of the examples in S3's documentation.
const S3_DOCS: (&str, &str) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");

fn keys(id: &str, secret: &str, token: Option<&str>) -> Keys {
    Keys::find(None, None, None, Path::new("/"), |name| match name {
        "AWS_ACCESS_KEY_ID" => Some(id.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
        "AWS_SESSION_TOKEN" => token.map(str::to_owned),
        _ => None,
    })
    .unwrap()
}

/// What a signature is of, and the last part of it as AWS published it.
struct Vector {
    key: (&'static str, &'static str),
    scope: Scope<'static>,
    request: Request<'static>,
    date: &'static str,
    names: &'static str,
    signature: &'static str,
}

const fn scope(service: &'static str) -> Scope<'static> {
    Scope { region: "us-east-1", service }
}

#[test]
fn the_published_examples_are_signed_as_published() {
    let vectors = [
        // The test suite's get-vanilla.
        Vector {
            key: SUITE,
            scope: scope("service"),
            request: Request {
                method: "GET",
                path: "/",
                query: "",
                headers: &[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")],
                content: EMPTY,
            },
            date: "20150830T123600Z",
            names: "host;x-amz-date",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        },
        // Its post-sts-header-before: with a session token.
        Vector {
            key: SUITE,
            scope: scope("service"),
            request: Request {
                method: "POST",
                path: "/",
                query: "",
                headers: &[
                    ("x-amz-date", "20150830T123600Z"),
                    ("host", "example.amazonaws.com"),
                    (
                        "x-amz-security-token",
                        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
                    ),
                ],
                content: EMPTY,
            },
            date: "20150830T123600Z",
            names: "host;x-amz-date;x-amz-security-token",
            signature: "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        },
        // S3's documentation, GET Object.
        Vector {
            key: S3_DOCS,
            scope: scope("s3"),
            request: Request {
                method: "GET",
                path: "/test.txt",
                query: "",
                headers: &[
                    ("host", "examplebucket.s3.amazonaws.com"),
                    ("range", "bytes=0-9"),
                    ("x-amz-content-sha256", EMPTY),
                    ("x-amz-date", "20130524T000000Z"),
                ],
                content: EMPTY,
            },
            date: "20130524T000000Z",
            names: "host;range;x-amz-content-sha256;x-amz-date",
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        },
        // PUT Object: a path that is encoded, and white space in a value.
        Vector {
            key: S3_DOCS,
            scope: scope("s3"),
            request: Request {
                method: "PUT",
                path: "/test%24file.text",
                query: "",
                headers: &[
                    ("date", " Fri,  24 May 2013 00:00:00 GMT "),
                    ("host", "examplebucket.s3.amazonaws.com"),
                    (
                        "x-amz-content-sha256",
                        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                    ),
                    ("x-amz-date", "20130524T000000Z"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
                content: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            },
            date: "20130524T000000Z",
            names: "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        },
        // GET Bucket Lifecycle: with a query.
        Vector {
            key: S3_DOCS,
            scope: scope("s3"),
            request: Request {
                method: "GET",
                path: "/",
                query: "lifecycle=",
                headers: &[
                    ("host", "examplebucket.s3.amazonaws.com"),
                    ("x-amz-content-sha256", EMPTY),
                    ("x-amz-date", "20130524T000000Z"),
                ],
                content: EMPTY,
            },
            date: "20130524T000000Z",
            names: "host;x-amz-content-sha256;x-amz-date",
            signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        },
    ];
    for Vector { key: (id, secret), scope, request, date, names, signature } in vectors {
        let day = &date[..8];
        let place = format!("{id}/{day}/{}/{}/aws4_request", scope.region, scope.service);
        assert_eq!(
            authorization(&request, scope, &keys(id, secret, None), date),
            format!("AWS4-HMAC-SHA256 Credential={place}, SignedHeaders={names}, Signature={signature}")
        );
    }
}

/// Signed by botocore 1.44.5 (S3SigV4Auth, SigV4Auth): requests as the sinks send them.
#[test]
fn requests_of_sinks_are_signed_as_by_the_reference_client() {
    let token = "AQoDYXdzEPT//////////wEXAMPLE";
    let keys = keys(SUITE.0, SUITE.1, Some(token));
    let at = UNIX_EPOCH + Duration::from_secs(1_795_406_706);
    let content = sha256(b"content");
    let path = encode("/logs/events/service=check out/hour=07/a~b-1.ndjson.zst");
    assert_eq!(path, "/logs/events/service%3Dcheck%20out/hour%3D07/a~b-1.ndjson.zst");
    let put = Request {
        method: "PUT",
        path: &path,
        query: "",
        headers: &[("content-type", "application/zstd"), ("x-amz-content-sha256", &content)],
        content: &content,
    };
    let region = "eu-central-1";
    let host = "s3.eu-central-1.amazonaws.com";
    let sent = headers(&put, Scope { region, service: "s3" }, host, &keys, at);
    let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        sent,
        [
            ("content-type", "application/zstd"),
            ("x-amz-content-sha256", "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"),
            ("x-amz-date", "20261123T040506Z"),
            ("x-amz-security-token", token),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/s3/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=4b890e2fa2f93ea782f86a807bcfc1b3c11788a5776302734d47d07792c29e18"
            ),
        ]
    );
    let content = sha256(br#"{"StreamName":"s"}"#);
    let post = Request {
        method: "POST",
        path: "/",
        query: "",
        headers: &[
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Kinesis_20131202.PutRecords"),
        ],
        content: &content,
    };
    let host = "kinesis.eu-central-1.amazonaws.com";
    let sent = headers(&post, Scope { region, service: "kinesis" }, host, &keys, at);
    assert_eq!(
        sent.last().unwrap().1,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=ba1b3581f995461fe794eca7b3a91dda61a67559b934c9a138ef480895e768cc"
    );
}

#[test]
fn keys_come_whole_from_one_place() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "of-the-file\n").unwrap();
    std::fs::write(directory.path().join("token"), "t0ken\n").unwrap();
    let full = |name: &str| Some(format!("env-{name}"));
    let nothing = |_: &str| None;
    let (file, token) = (Some(Path::new("secret")), Some(Path::new("token")));
    let find = |id: Option<&str>, file, environment: &dyn Fn(&str) -> Option<String>| {
        Keys::find(id, file, token, directory.path(), environment)
    };

    let mut keys = find(Some("AKID"), file, &full).unwrap();
    assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("AKID", "of-the-file"));
    assert_eq!(keys.session_token(), Some("t0ken"));
    assert!(!keys.reload());
    std::fs::write(directory.path().join("secret"), "rotated").unwrap();
    assert!(keys.reload());
    assert_eq!(keys.secret_access_key(), "rotated");
    assert!(!format!("{keys:?}").contains("rotated"));

    let keys = find(None, None, &full).unwrap();
    assert_eq!(keys.secret_access_key(), "env-AWS_SECRET_ACCESS_KEY");
    for (id, file, want) in [
        (None, None, "AWS_ACCESS_KEY_ID"),
        (Some("AKID"), None, "together"),
        (None, file, "together"),
        (Some("AKID"), Some(Path::new("nowhere")), "nowhere"),
        (Some("AK\nID"), file, "characters"),
    ] {
        let error = find(id, file, &nothing).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}
