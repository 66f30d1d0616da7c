//! What the customers do: orders of several accounts, at once, and a few requests that are wrong.

use super::mesh::Mesh;
use super::message::{Client, Message, send_raw};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Who orders, with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    /// `account.id`.
    pub(super) id: &'static str,
    /// `user.id`.
    pub(super) user: &'static str,
    /// What they bought.
    pub(super) license: &'static str,
    /// Feature flags; empty for none.
    pub(super) flags: &'static str,
}

/// The customers.
pub(super) const ACCOUNTS: [Account; 5] = [
    Account { id: "acme", user: "ann", license: "gold", flags: "" },
    Account { id: "globex", user: "bob", license: "platinum", flags: "dark-mode" },
    Account { id: "initech", user: "carl", license: "standard", flags: "" },
    Account { id: "hooli", user: "dora", license: "standard", flags: "early-access" },
    Account { id: "umbrella", user: "eve", license: "free", flags: "" },
];

/// Orders of each account in one wave.
const ORDERS_EACH: usize = 80;

/// Orders that are under way at once.
const CLIENTS: usize = 4;

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How many orders were sent.
    pub(super) sent: u64,
    /// How many had each status; 0 where no answer came.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Who charged for whom, as the answers say: account, instance, count.
    pub(super) charged: BTreeMap<(&'static str, String), u64>,
}

impl Answers {
    /// How many were not answered 200.
    pub(super) fn failed(&self) -> u64 {
        self.sent - self.statuses.get(&200).copied().unwrap_or(0)
    }

    fn note(&mut self, account: &Account, answer: Option<&Message>) {
        self.sent += 1;
        *self.statuses.entry(answer.map_or(0, Message::status)).or_default() += 1;
        let charged_by = answer.map(Message::json).unwrap_or_default();
        if let Some(instance) = charged_by["charged_by"].as_str() {
            *self.charged.entry((account.id, instance.into())).or_default() += 1;
        }
    }
}

/// Sends a wave of orders to the storefront's sidecar, the accounts by turns.
pub(super) fn wave(storefront: SocketAddr, number: usize) -> Answers {
    let answers = Mutex::new(Answers::default());
    let next = AtomicUsize::new(0);
    let client = Client::new(storefront);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= ORDERS_EACH * ACCOUNTS.len() {
                        return;
                    }
                    let Some(account) = ACCOUNTS.get(index % ACCOUNTS.len()) else { return };
                    let answer = client.call(&order(account, number, index));
                    let mut answers = answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    answers.note(account, answer.as_ref().ok());
                }
            });
        }
    });
    client.close();
    answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sends one order, while nothing else is under way, and says for whom: for one that has every field of a context.
pub(super) fn alone(storefront: SocketAddr) -> (Account, Answers) {
    let [_, account, ..] = ACCOUNTS;
    let client = Client::new(storefront);
    let mut answers = Answers::default();
    answers.note(&account, client.call(&order(&account, 0, 0)).as_ref().ok());
    client.close();
    (account, answers)
}

fn order(account: &Account, wave: usize, index: usize) -> Message {
    let mut request = Message::request("POST", "/buy", "storefront")
        .with("content-type", "application/json")
        .with("x-account-id", account.id)
        .with("x-user-id", account.user)
        .with("x-license", account.license);
    if !account.flags.is_empty() {
        request = request.with("x-feature-flags", account.flags);
    }
    let number = format!("{}-{wave}-{index}", account.id);
    request = request.with("idempotency-key", &number);
    request.content = json!({ "order": number, "amount": 10 + index }).to_string().into_bytes();
    request
}

/// A request that is wrong, and what came of it.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is wrong, in a few words.
    pub(super) title: &'static str,
    /// Whose sidecar was asked.
    pub(super) node: &'static str,
    /// How its event is found: a field, and the text in it.
    pub(super) found_by: (&'static str, &'static str),
    /// What was expected: status and cause.
    pub(super) expected: (u16, &'static str),
    /// The answer's status.
    pub(super) status: u16,
    /// `Proxy-Status`.
    pub(super) proxy_status: String,
    /// The problem document.
    pub(super) problem: Value,
}

/// A wrong request before it is sent.
struct Wrong {
    title: &'static str,
    node: &'static str,
    listener: &'static str,
    found_by: (&'static str, &'static str),
    expected: (u16, &'static str),
    bytes: &'static str,
}

const WRONG: [Wrong; 3] = [
    Wrong {
        title: "a host that nobody has: `paymnets`",
        node: "checkout",
        listener: "outbound",
        found_by: ("server.address", "paymnets"),
        expected: (404, "route_not_found"),
        bytes: "GET /balance HTTP/1.1\r\nhost: paymnets\r\n\r\n",
    },
    Wrong {
        title: "smuggling: two framings in one request",
        node: "storefront",
        listener: "inbound",
        found_by: ("sidelight.cause", "malformed_request"),
        expected: (400, "malformed_request"),
        bytes: "POST /buy HTTP/1.1\r\nhost: storefront\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /admin HTTP/1.1\r\nhost: storefront\r\n\r\n",
    },
    Wrong {
        title: "`Connection: x-license`, to lose the license on the way",
        node: "storefront",
        listener: "inbound",
        found_by: ("sidelight.cause", "protected_field_nominated"),
        expected: (400, "protected_field_nominated"),
        bytes: "GET /buy HTTP/1.1\r\nhost: storefront\r\nx-license: free\r\nconnection: x-license\r\n\r\n",
    },
];

/// Sends the wrong requests.
pub(super) fn wrong(mesh: &Mesh) -> Result<Vec<Refusal>, String> {
    let mut refusals = Vec::new();
    for wrong in &WRONG {
        let address = mesh.node(wrong.node)?.sidecar.address(wrong.listener)?;
        let answer = send_raw(address, wrong.bytes.as_bytes());
        let answer = answer.map_err(|error| format!("{}: no answer: {error}", wrong.title))?;
        refusals.push(Refusal {
            title: wrong.title,
            node: wrong.node,
            found_by: wrong.found_by,
            expected: wrong.expected,
            status: answer.status(),
            proxy_status: answer.get("proxy-status").unwrap_or_default().into(),
            problem: answer.json(),
        });
    }
    Ok(refusals)
}
