//! The names that were probably meant, when no route matches.

/// At most so many names are said.
const NAMES_MAX: usize = 3;
/// At most so many are compared: a flood of unknown hosts must not cost more than it is worth.
const COMPARED_MAX: usize = 256;
/// Longer names are not compared.
const BYTES_MAX: usize = 64;

/// The names nearest to `written` (both in lower case), the nearest first: by Levenshtein distance, where at most a
/// third of the letters differs, or where the first label is the same (`payments.ns.svc` for `payments`).
pub(super) fn nearest<'a>(written: &[u8], names: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    if written.is_empty() || written.len() > BYTES_MAX {
        return Vec::new();
    }
    let mut found: Vec<(usize, &[u8])> = names
        .filter(|name| name.len() <= BYTES_MAX)
        .take(COMPARED_MAX)
        .filter_map(|name| {
            if label(name) == label(written) {
                return Some((0, name));
            }
            let allowed = (written.len().max(name.len()) / 3).max(1);
            if written.len().abs_diff(name.len()) > allowed {
                return None;
            }
            let distance = distance(written, name);
            (distance <= allowed).then_some((distance, name))
        })
        .collect();
    found.sort();
    found.truncate(NAMES_MAX);
    found.into_iter().map(|(_, name)| name).collect()
}

fn label(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// Insertions, deletions and substitutions between two words of at most [`BYTES_MAX`] bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: [usize; BYTES_MAX + 1] = std::array::from_fn(|at| at);
    for (i, x) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (y, slot) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *slot;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *slot = left;
        }
        row[0] = i + 1;
    }
    row.get(b.len()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), want, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), want, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["payments", "payment-v2", "inventory", "search", "paymentz"];
        let near = |written: &str| -> Vec<&str> {
            let found = nearest(written.as_bytes(), names.iter().map(|name| name.as_bytes()));
            found.into_iter().map(|name| std::str::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(near("paymets"), ["payments", "paymentz"]);
        assert_eq!(near("payments.shop.svc"), ["payments"]);
        assert_eq!(near("serch"), ["search"]);
        assert!(near("zzz").is_empty() && near("").is_empty() && near(&"a".repeat(65)).is_empty());
    }
}
