use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn order<T>(queue: &mut FairQueue<T>) -> Vec<T> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn a_higher_tier_goes_first_and_accounts_take_turns() {
    let mut queue = FairQueue::new(100);
    for (tier, account, name) in [
        (1, 1, "a1"),
        (1, 1, "a2"),
        (1, 1, "a3"),
        (0, 9, "trace"),
        (1, 2, "b1"),
        (2, 3, "gold1"),
        (1, 3, "c1"),
        (2, 3, "gold2"),
        (1, 2, "b2"),
    ] {
        assert!(matches!(queue.push(tier, account, name), Pushed::Waits(_)));
    }
    assert_eq!(order(&mut queue), ["gold1", "gold2", "a1", "b1", "c1", "a2", "b2", "a3", "trace"]);
    assert!(queue.is_empty());
}

/// An account that comes late does not wait for what another one has already queued.
#[test]
fn one_request_waits_one_turn_however_many_another_account_has() {
    let mut queue = FairQueue::new(1000);
    for number in 0..500 {
        queue.push(1, 7, number);
    }
    assert_eq!(queue.pop(), Some(0));
    queue.push(1, 8, 9000);
    assert_eq!([queue.pop(), queue.pop()], [Some(1), Some(9000)]);
}

#[test]
fn who_is_turned_away_is_of_the_lowest_tier_and_there_of_the_account_with_most() {
    let mut queue = FairQueue::new(4);
    for (tier, account, name) in [(1, 1, "a1"), (1, 1, "a2"), (1, 2, "b1"), (2, 3, "gold")] {
        queue.push(tier, account, name);
    }
    assert!(matches!(queue.push(2, 4, "gold2"), Pushed::Replaces(_, "a2")));
    assert!(matches!(queue.push(1, 5, "c1"), Pushed::Refused("c1")), "of equals the latest");
    assert!(matches!(queue.push(0, 5, "trace"), Pushed::Refused("trace")));
    assert!(matches!(queue.push(2, 3, "gold3"), Pushed::Replaces(_, "b1")));
    assert!(matches!(queue.push(2, 4, "gold4"), Pushed::Replaces(_, "a1")));
    assert!(matches!(queue.push(2, 3, "gold5"), Pushed::Refused("gold5")));
    assert_eq!(order(&mut queue), ["gold", "gold2", "gold3", "gold4"]);
}

#[test]
fn a_ticket_takes_out_its_own_only() {
    let mut queue = FairQueue::new(10);
    let Pushed::Waits(first) = queue.push(0, 1, "first") else { panic!() };
    assert_eq!(queue.remove(first), Some("first"));
    let Pushed::Waits(second) = queue.push(0, 1, "second") else { panic!() };
    assert_eq!(queue.remove(first), None, "its node is used again, its number is not");
    assert_eq!(queue.pop(), Some("second"));
    assert_eq!(queue.remove(second), None);
    assert!(matches!(FairQueue::new(0).push(3, 1, ()), Pushed::Refused(())));
}

/// The same rules, said as slowly as possible.
#[derive(Default)]
struct Model {
    entries: Vec<(usize, u64, u64)>,
    /// Accounts by tier, in the order of their turns.
    turns: HashMap<usize, Vec<u64>>,
}

impl Model {
    fn push(&mut self, tier: usize, account: u64, number: u64, max: usize) -> Option<u64> {
        self.entries.push((tier, account, number));
        let turns = self.turns.entry(tier).or_default();
        if !turns.contains(&account) {
            turns.push(account);
        }
        if self.entries.len() <= max {
            return None;
        }
        let lowest = self.entries.iter().map(|entry| entry.0).min().unwrap();
        let latest_of = |account: u64| {
            let own = self.entries.iter().filter(|entry| entry.0 == lowest && entry.1 == account);
            (own.clone().count(), own.map(|entry| entry.2).max().unwrap())
        };
        let victim = self.turns[&lowest].iter().map(|account| latest_of(*account)).max().unwrap().1;
        self.remove(victim);
        Some(victim)
    }

    fn pop(&mut self) -> Option<u64> {
        let tier = self.entries.iter().map(|entry| entry.0).max()?;
        let account = self.turns.get_mut(&tier).unwrap().remove(0);
        let oldest =
            self.entries.iter().filter(|entry| entry.0 == tier && entry.1 == account).map(|entry| entry.2);
        let oldest = oldest.min().unwrap();
        self.turns.get_mut(&tier).unwrap().push(account);
        self.remove(oldest);
        Some(oldest)
    }

    fn remove(&mut self, number: u64) -> bool {
        let Some(index) = self.entries.iter().position(|entry| entry.2 == number) else { return false };
        let (tier, account, _) = self.entries.remove(index);
        if !self.entries.iter().any(|entry| (entry.0, entry.1) == (tier, account)) {
            self.turns.get_mut(&tier).unwrap().retain(|other| *other != account);
        }
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, u64),
    Pop,
    Remove(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0usize..4, 0u64..6).prop_map(|(tier, account)| Step::Push(tier, account)),
        3 => Just(Step::Pop),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn the_queue_does_what_the_rules_say(steps in steps(), max in 0usize..20) {
        let mut queue = FairQueue::new(max);
        let mut model = Model::default();
        let mut tickets: Vec<(Ticket, u64)> = Vec::new();
        let mut left = HashSet::new();
        let mut pushed = 0u64;
        let mut turned_away = 0;
        for step in steps {
            match step {
                Step::Push(tier, account) => {
                    let expected = model.push(tier, account, pushed, max);
                    match queue.push(tier, account, pushed) {
                        Pushed::Waits(ticket) => {
                            prop_assert_eq!(expected, None);
                            tickets.push((ticket, pushed));
                        }
                        Pushed::Replaces(ticket, victim) => {
                            prop_assert_eq!(expected, Some(victim));
                            prop_assert!(left.insert(victim));
                            turned_away += 1;
                            tickets.push((ticket, pushed));
                        }
                        Pushed::Refused(own) => {
                            prop_assert_eq!((expected, own), (Some(pushed), pushed));
                            prop_assert!(left.insert(own));
                            turned_away += 1;
                        }
                    }
                    pushed += 1;
                }
                Step::Pop => {
                    let popped = queue.pop();
                    prop_assert_eq!(popped, model.pop());
                    prop_assert!(popped.is_none_or(|number| left.insert(number)), "twice");
                }
                Step::Remove(index) if !tickets.is_empty() => {
                    let (ticket, number) = tickets[index.index(tickets.len())];
                    let removed = queue.remove(ticket);
                    prop_assert_eq!(removed.is_some(), model.remove(number));
                    prop_assert!(removed.is_none_or(|own| own == number && left.insert(own)));
                }
                Step::Remove(_) => {}
            }
            prop_assert_eq!(queue.len(), model.entries.len());
            prop_assert_eq!((0..4).map(|tier| queue.waiting(tier)).sum::<usize>(), queue.len());
            prop_assert!(queue.len() <= max);
        }
        let rest = order(&mut queue);
        prop_assert!(rest.iter().all(|number| left.insert(*number)));
        prop_assert_eq!(left.len() as u64, pushed, "everything that came has left, once ({} turned away)", turned_away);
        prop_assert!(queue.accounts.get(0).is_none() && queue.tiers.iter().all(|tier| tier.accounts.is_empty()));
    }

    /// Between two turns of an account that waits, every other account of its tier has one turn at most.
    #[test]
    fn nobody_starves_within_a_tier(accounts in prop::collection::vec(0u64..8, 1..400)) {
        let mut queue = FairQueue::new(1000);
        for account in &accounts {
            queue.push(1, *account, *account);
        }
        let served = order(&mut queue);
        prop_assert_eq!(served.len(), accounts.len());
        for account in accounts.iter().collect::<HashSet<_>>() {
            let turns: Vec<usize> = served.iter().enumerate().filter(|(_, own)| *own == account).map(|(at, _)| at).collect();
            for pair in turns.windows(2) {
                let between = &served[pair[0] + 1..pair[1]];
                let unique: HashSet<_> = between.iter().collect();
                prop_assert_eq!(unique.len(), between.len(), "{:?}", served);
            }
        }
    }
}
