//! An application with a login, a cart and a checkout: recorded with one set of secrets, replayed with another.

use super::super::*;
use crate::record::{Event, ResponseHead, What};
use std::collections::{HashMap, HashSet};

/// Everything it makes depends on its seed, so two of them agree in nothing.
struct Shop {
    seed: u64,
    made: u64,
    /// Sessions: cookie → (CSRF token, bearer token once logged in).
    sessions: HashMap<String, (String, Option<String>)>,
    carts: HashMap<String, (String, u64)>,
    orders: HashSet<String>,
    keys: HashSet<String>,
    failures: Vec<String>,
}

struct Asked<'a> {
    request: &'a Request,
    target: &'a str,
}

impl Asked<'_> {
    fn header(&self, name: &str) -> String {
        field(&self.request.head.fields, name.as_bytes())
            .map(|v| String::from_utf8_lossy(v).into_owned())
            .unwrap_or_default()
    }

    fn cookie(&self, name: &str) -> String {
        let cookies = self.header("cookie");
        cookies
            .split("; ")
            .find_map(|pair| pair.strip_prefix(&format!("{name}=")))
            .unwrap_or_default()
            .to_owned()
    }

    fn body(&self) -> &str {
        std::str::from_utf8(&self.request.body).unwrap()
    }
}

impl Shop {
    fn new(seed: u64) -> Shop {
        Shop {
            seed,
            made: 0,
            sessions: HashMap::new(),
            carts: HashMap::new(),
            orders: HashSet::new(),
            keys: HashSet::new(),
            failures: Vec::new(),
        }
    }

    fn make(&mut self, prefix: &str) -> String {
        self.made += 1;
        let value = (self.seed + self.made).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{prefix}{value:016x}")
    }

    fn serve(&mut self, request: &Request) -> Answer {
        let target = String::from_utf8(request.head.target.to_vec()).unwrap();
        let asked = Asked { request, target: &target };
        let (status, fields, body) = self.answer(&asked);
        if status >= 400 {
            self.failures.push(format!("{status} {target} {:?}", request.head.fields));
        }
        let fields = fields.into_iter().map(|(name, value)| Field::new(name, value)).collect();
        Answer { status, fields, body_bytes: body.len() as u64, body: body.into(), ..Answer::default() }
    }

    fn answer(&mut self, asked: &Asked<'_>) -> (u16, Vec<(&'static str, String)>, String) {
        let json = ("content-type", "application/json".to_owned());
        let sid = asked.cookie("sid");
        let method = String::from_utf8_lossy(&asked.request.head.method).into_owned();
        let steps: Vec<&str> = asked.target.split('?').next().unwrap().split('/').skip(1).collect();
        if let ("GET", ["login"]) = (&*method, &*steps) {
            let (sid, csrf) = (self.make(""), self.make(""));
            let page = format!(
                r#"<html><form method=post><input type="hidden" name="csrf" value="{csrf}"><input name=user></form>"#
            );
            self.sessions.insert(sid.clone(), (csrf, None));
            let cookie = ("set-cookie", format!("sid={sid}; Path=/; HttpOnly"));
            return (200, vec![("content-type", "text/html; charset=utf-8".into()), cookie], page);
        }
        let Some((csrf, bearer)) = self.sessions.get(&sid).cloned() else {
            return (401, vec![], "no session".into());
        };
        if let ("POST", ["login"]) = (&*method, &*steps) {
            if !asked.body().contains(&format!("csrf={csrf}&")) {
                return (403, vec![], "csrf".into());
            }
            // The session is another one after a login, as it should be.
            self.sessions.remove(&sid);
            let (sid, bearer, csrf, user) =
                (self.make(""), self.make("at_"), self.make("c/+="), self.make("u_"));
            self.sessions.insert(sid.clone(), (csrf.clone(), Some(bearer.clone())));
            let fields = vec![
                json,
                ("set-cookie", format!("sid={sid}; Path=/")),
                ("x-csrf-token", csrf),
                ("location", format!("/users/{user}?tab=home")),
            ];
            return (303, fields, format!(r#"{{"access_token":"{bearer}","expires_in":3600}}"#));
        }
        if bearer.is_none_or(|bearer| asked.header("authorization") != format!("Bearer {bearer}")) {
            return (401, vec![], "no bearer".into());
        }
        if method != "GET" && asked.header("x-csrf-token") != csrf {
            return (403, vec![], "csrf".into());
        }
        match (&*method, &*steps) {
            ("GET", ["users", _]) => (200, vec![json], "{}".into()),
            ("POST", ["carts"]) => {
                let (cart, tag) = (self.make("cart_"), self.make(""));
                self.carts.insert(cart.clone(), (tag.clone(), 0));
                (
                    201,
                    vec![json, ("etag", format!("\"{tag}\""))],
                    format!(r#"{{"cart":{{"id":"{cart}","items":[]}}}}"#),
                )
            }
            ("PUT", ["carts", cart, "items"]) => {
                let tag = self.make("");
                let Some(known) = self.carts.get_mut(*cart) else { return (404, vec![], "cart".into()) };
                if asked.header("if-match") != format!("\"{}\"", known.0) {
                    return (412, vec![], "changed".into());
                }
                *known = (tag.clone(), known.1 + 1);
                (200, vec![json, ("etag", format!("\"{tag}\""))], "{}".into())
            }
            ("POST", ["checkout"]) => {
                let body: serde_json::Value = serde_json::from_str(asked.body()).unwrap();
                if !self.keys.insert(asked.header("idempotency-key")) {
                    return (409, vec![], "twice".into());
                }
                if self.carts.remove(body["cart_id"].as_str().unwrap()).is_none_or(|(_, items)| items != 2) {
                    return (404, vec![], "cart".into());
                }
                self.made += 1;
                let order = 10_000_000 + self.seed * 1_000 + self.made;
                self.orders.insert(order.to_string());
                (201, vec![json], format!(r#"{{"order":{{"id":{order},"total":2598}}}}"#))
            }
            ("GET", ["orders", order]) => {
                (if self.orders.contains(*order) { 200 } else { 404 }, vec![json], "{}".into())
            }
            _ => (404, vec![], "route".into()),
        }
    }
}

/// One user's way through the shop, recorded.
fn record(shop: &mut Shop, user: u64, secret: &dyn Fn(&str) -> String) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut ask = |method: &str, target: &str, fields: Vec<(&'static str, String)>, body: String| {
        let fields: Vec<Field> = fields.into_iter().map(|(name, value)| Field::new(name, value)).collect();
        let head = RequestHead {
            method: method.to_owned().into(),
            target: target.to_owned().into(),
            fields,
            ..RequestHead::default()
        };
        let request = Request { head, body: body.into(), pass: 0 };
        let answer = shop.serve(&request);
        // What the recorder redacts: the values of cookies, credentials and tokens, each by its keyed token.
        let hide = |fields: &[Field]| {
            let hide = |field: &Field| {
                let text = String::from_utf8(field.value.to_vec()).unwrap();
                let at = if field.is(b"set-cookie") || field.is(b"cookie") {
                    "sid="
                } else if field.is(b"authorization") {
                    "Bearer "
                } else {
                    return field.clone();
                };
                let (before, value) = text.split_once(at).unwrap();
                let (value, after) = value.split_at(value.find(';').unwrap_or(value.len()));
                Field::new(field.name.clone(), format!("{before}{at}{}{after}", secret(value)))
            };
            fields.iter().map(hide).collect::<Vec<_>>()
        };
        let mut body = String::from_utf8(answer.body.to_vec()).unwrap();
        if let Some((_, token)) = body.clone().split_once(r#""access_token":""#) {
            let token = token.split('"').next().unwrap();
            body = body.replace(token, &secret(token));
        }
        let what = [
            What::Request(RequestHead { fields: hide(&request.head.fields), ..request.head.clone() }),
            What::Data(Side::Request, request.body.clone()),
            What::Response(ResponseHead { status: answer.status, fields: hide(&answer.fields) }),
            What::Data(Side::Response, body.into()),
        ];
        let events = what.map(|what| Event { at_ns: 0, what }).to_vec();
        entries.push(Entry { connection: user, status: answer.status, events, ..Entry::default() });
        answer
    };
    let header = |answer: &Answer, name: &str| {
        String::from_utf8(field(&answer.fields, name.as_bytes()).unwrap().to_vec()).unwrap()
    };
    let sid = |answer: &Answer| header(answer, "set-cookie").split(';').next().unwrap().to_owned();
    let text = |answer: &Answer| String::from_utf8(answer.body.to_vec()).unwrap();
    let page = ask("GET", "/login", vec![], String::new());
    let csrf = text(&page).split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = ("content-type", "application/x-www-form-urlencoded".to_owned());
    let login = ask(
        "POST",
        "/login",
        vec![("cookie", sid(&page)), form],
        format!("csrf={csrf}&user=u{user}&password=x"),
    );
    let tokens: serde_json::Value = serde_json::from_slice(&login.body).unwrap();
    let own = vec![
        ("cookie", format!("theme=dark; {}", sid(&login))),
        ("authorization", format!("Bearer {}", tokens["access_token"].as_str().unwrap())),
        ("x-csrf-token", header(&login, "x-csrf-token")),
        ("content-type", "application/json".to_owned()),
    ];
    let with = |name: &'static str, value: String| [own.clone(), vec![(name, value)]].concat();
    ask("GET", &header(&login, "location"), own.clone(), String::new());
    let cart = ask("POST", "/carts", own.clone(), "{}".into());
    let made: serde_json::Value = serde_json::from_slice(&cart.body).unwrap();
    let id = made["cart"]["id"].as_str().unwrap().to_owned();
    let put = |tag: String| with("if-match", tag);
    let first = ask(
        "PUT",
        &format!("/carts/{id}/items"),
        put(header(&cart, "etag")),
        r#"{"sku":"a","count":2}"#.into(),
    );
    ask("PUT", &format!("/carts/{id}/items"), put(header(&first, "etag")), r#"{"sku":"b","count":1}"#.into());
    let key = with("idempotency-key", format!("0b1f3d52-44a6-4be2-9a7e-5b8ad10a{user:04x}"));
    let order = ask("POST", "/checkout", key, format!(r#"{{"cart_id": "{id}", "pay": "card"}}"#));
    let order: serde_json::Value = serde_json::from_slice(&order.body).unwrap();
    ask("GET", &format!("/orders/{}?full=1", order["order"]["id"]), own.clone(), String::new());
    entries
}

fn replay(shop: &mut Shop, sessions: &mut Sessions, entries: &[Entry], actor_of: impl Fn(&Entry) -> u64) {
    for entry in entries {
        let mut request =
            Request { head: entry.request_head().unwrap().clone(), body: entry.body(Side::Request), pass: 0 };
        sessions.rewrite(actor_of(entry), entry, &mut request);
        let answer = shop.serve(&request);
        sessions.learn(actor_of(entry), entry, &answer);
    }
}

/// Users side by side: the first request of each, then the second of each …
fn recorded(secret: &dyn Fn(&str) -> String) -> Vec<Entry> {
    let mut shop = Shop::new(1);
    let users: Vec<Vec<Entry>> = (0..20).map(|user| record(&mut shop, user, secret)).collect();
    assert_eq!(shop.failures, Vec::<String>::new());
    (0..users[0].len()).flat_map(|step| users.iter().map(move |user| user[step].clone())).collect()
}

#[test]
fn login_cart_and_checkout_are_replayed_without_a_failure() {
    let keyed = |value: &str| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"recording"), value.as_bytes());
        let token: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        token[..value.len()].to_owned()
    };
    for (name, entries) in [("as it was", recorded(&str::to_owned)), ("redacted", recorded(&keyed))] {
        let mut shop = Shop::new(500);
        let mut sessions = Sessions::new(Config::default(), "run");
        replay(&mut shop, &mut sessions, &entries, |entry| entry.connection);
        assert_eq!(shop.failures, Vec::<String>::new(), "{name}");
        assert_eq!(shop.orders.len(), 20);
        // Again, as other users: an amplified recording on the same shop.
        replay(&mut shop, &mut sessions, &entries, |entry| 1_000 + entry.connection);
        assert_eq!((shop.failures, shop.orders.len()), (Vec::new(), 40), "{name}");
    }
}

#[test]
fn without_sessions_nearly_everything_fails() {
    let mut shop = Shop::new(500);
    for entry in recorded(&str::to_owned) {
        shop.serve(&Request {
            head: entry.request_head().unwrap().clone(),
            body: entry.body(Side::Request),
            pass: 0,
        });
    }
    assert_eq!(
        (shop.failures.len(), shop.orders.len()),
        (20 * 7, 0),
        "only the page of the login is for all"
    );
}
