//! Many tries to have a context believed that nobody signed: `FORGERIES=1000000` for more of them.

use super::*;

/// How many tries a usual run makes.
const TRIES: u64 = 20_000;

/// Who tries: it has seen tokens of other contexts, knows the public key, and has keys of its own under the same names.
struct Forger {
    rng: Rng,
    own: Vec<Keys>,
    seen: Vec<(Vec<u8>, Owned)>,
}

impl Forger {
    fn new(seed: u64) -> Forger {
        let lines = [
            format!("active: h1\nkeys: {{ h1: {{ algorithm: hmac_sha256, secret: \"{THIRD}\" }} }}"),
            format!("active: e1\nkeys: {{ e1: {{ algorithm: ed25519, private: \"{THIRD}\" }} }}"),
            // The public key as if it were a secret: works on those who let the token name the algorithm.
            format!("active: e1\nkeys: {{ e1: {{ algorithm: hmac_sha256, secret: \"{SECOND_PUBLIC}\" }} }}"),
            format!("active: h1\nkeys: {{ h1: {{ algorithm: hmac_sha256, secret: \"{SECOND_PUBLIC}\" }} }}"),
        ];
        let base = owned(&claims());
        let changed = |change: fn(&mut Owned)| {
            let mut changed = base.clone();
            change(&mut changed);
            (NOW_S, changed)
        };
        let contexts = [
            (NOW_S - 1000, base.clone()),
            (NOW_S + 1000, base.clone()),
            changed(|context| context.0 = [7; 16]),
            changed(|context| context.2 = false),
            changed(|context| context.1[2] = b"bronze".to_vec()),
            changed(|context| context.1[0] = b"mallory".to_vec()),
        ];
        let seen = ["h1", "e1"].into_iter().flat_map(|id| {
            let keys = keys(id);
            contexts.clone().map(|(now_s, context)| {
                (with_claims(&context, |claims| sign_at(&keys, claims, now_s, TTL_MAX_S)), context)
            })
        });
        Forger {
            rng: Rng::new(seed),
            own: lines.iter().map(|line| parse(line)).collect(),
            seen: seen.collect(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound as u64) as usize
    }

    /// A byte that may be in a token, mostly.
    fn byte(&mut self) -> u8 {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
        let at = self.below(DIGITS.len() + 1);
        DIGITS.get(at).copied().unwrap_or(self.rng.next_u64() as u8)
    }

    fn seen(&mut self) -> Vec<u8> {
        let at = self.below(self.seen.len());
        self.seen[at].0.clone()
    }

    /// Another text for a token.
    fn token(&mut self, real: &[u8], wanted: &Claims<'_>) -> Vec<u8> {
        let mut token = real.to_vec();
        let at = self.below(token.len());
        match self.below(9) {
            0 => token[at] ^= 1 << self.below(8),
            1 => token[at] = self.byte(),
            2 => token.truncate(at),
            3 => {
                let more = [self.byte(), self.byte()];
                token.extend_from_slice(&more[..1 + self.below(2)]);
            }
            4 => token.extend(self.seen()),
            5 => return self.seen(),
            6 => {
                // Each part of one or of the other.
                let other = self.seen();
                let mut parts: Vec<&[u8]> = real.split(|byte| *byte == b'.').collect();
                for (part, other) in parts.iter_mut().zip(other.split(|byte| *byte == b'.')) {
                    if self.below(2) == 0 {
                        *part = other;
                    }
                }
                return parts.join(&b'.');
            }
            7 => {
                token.remove(at);
                token.insert(self.below(token.len()), self.byte());
            }
            _ => {
                let by = self.below(self.own.len());
                return sign(&self.own[by], wanted);
            }
        }
        token
    }

    /// Another value for a field.
    fn value(&mut self, real: &[u8]) -> Vec<u8> {
        let mut value = real.to_vec();
        let at = self.below(value.len() + 1);
        match self.below(4) {
            0 => value.clear(),
            1 => value.insert(at, self.byte()),
            2 => value.truncate(at),
            _ => {
                if let Some(byte) = value.get_mut(at) {
                    *byte ^= 1 << (self.rng.next_u64() % 8);
                }
            }
        }
        value
    }
}

fn owned(claims: &Claims<'_>) -> Owned {
    let values = [claims.user_id, claims.account_id, claims.license, claims.flags].map(<[u8]>::to_vec);
    let extra = claims.extra.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    (claims.trace_id, values, true, extra)
}

impl Forger {
    /// Another context.
    fn context(&mut self) -> Owned {
        let mut context = owned(&claims());
        match self.below(8) {
            0 => context.0[self.below(16)] ^= 1 << self.below(8),
            1 => context.2 = false,
            2 => {
                let (one, other) = (self.below(4), self.below(4));
                context.1.swap(one, other);
            }
            3 => {
                let at = self.below(2);
                context.3[at].1 = self.value(&context.3[at].1.clone());
            }
            4 => context.3.reverse(),
            5 => context.3[0].0.push('x'),
            _ => {
                let at = self.below(4);
                context.1[at] = self.value(&context.1[at].clone());
            }
        }
        context
    }
}

#[test]
fn nobody_has_a_context_believed_that_was_not_signed() {
    let tries = std::env::var("FORGERIES").ok().and_then(|text| text.parse().ok()).unwrap_or(TRIES);
    let keys = &verifier();
    let real = ["h1", "e1"].map(|id| sign(&super::keys(id), &claims()));
    let mut forger = Forger::new(0x51de_1161);
    let mut cache = Cache::new(256, 99);
    let (mut scratch, mut refused) = (Vec::new(), [0_u64; Refused::ALL.len()]);
    let (base, mut harmless) = (owned(&claims()), 0);
    for at in 0..tries {
        // Ed25519 costs fifty times as much, so it is tried less often.
        let real = &real[usize::from(at % 16 == 0)];
        let kind = forger.below(3);
        let wanted = if kind == 0 { base.clone() } else { forger.context() };
        let token =
            if kind == 1 { real.clone() } else { with_claims(&wanted, |wanted| forger.token(real, wanted)) };
        let is_signed = |(token_signed, context): &(Vec<u8>, Owned)| {
            *token_signed == token && meaning(context) == meaning(&wanted)
        };
        // Of the base only `real` is in its time.
        let mut others = forger.seen.iter().filter(|(_, context)| *context != base);
        if is_signed(&(real.clone(), base.clone())) || others.any(is_signed) {
            harmless += 1; // nothing was changed, or it became what somebody did sign
            continue;
        }
        with_claims(&wanted, |wanted| {
            let plain = keys.verify(&token, wanted, NOW_S, SKEW_DEFAULT_S, &mut scratch);
            let cached = cache.verify(keys, &token, wanted, NOW_S, SKEW_DEFAULT_S);
            let Err(reason) = plain else {
                panic!("try {at}: {} for {wanted:?}", String::from_utf8_lossy(&token))
            };
            assert_eq!(cached, Err(reason), "try {at}");
            refused[reason as usize] += 1;
        });
        if at % 64 == 0 {
            let honest = cache.verify(keys, real, &claims(), NOW_S, SKEW_DEFAULT_S);
            assert!(honest.is_ok(), "try {at}: the real one is believed all the while");
        }
    }
    assert!(harmless < tries / 5, "{harmless} of {tries} tries were none");
    for (reason, count) in Refused::ALL.into_iter().zip(refused) {
        assert!(count > 0, "no try ended as {}", reason.as_str());
    }
    println!("{tries} tries: 0 believed, {harmless} were signed, refused as {:?}: {refused:?}", Refused::ALL);
}
