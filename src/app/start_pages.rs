//! Pages of the program that only start-up needed: they are let go once the process is ready.
//!
//! What: start-up runs the command line, the schema of the configuration, all readers and checks, once; the kernel maps
//! what they touch in pieces of 64 KiB ("fault-around"), so that two thirds of what an idle proxy holds is code that never
//! runs again. `madvise(MADV_DONTNEED)` on a mapping of a file that was never written drops entries of the page table and
//! no content: what is needed again is found in the page cache, at a minor fault for each 64 KiB (man 2 madvise).
//! Why not by the program's headers: a mapping may be written to where they do not say so (relocations, a debugger's
//! breakpoints). The kernel knows: `Anonymous` in `/proc/self/smaps` counts the pages of a mapping that are not the
//! file's any more (man 5 `proc_pid_smaps`); where it is not 0, and so for all that is relocated (RELRO), the mapping stays.
//! How it fails: silently; what cannot be read or is refused stays as it is.

/// Lets go of the pages of the program's own file that are as the file has them. Returns how many bytes are mapped so.
pub(super) fn release() -> usize {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return 0 };
    let here = release as fn() -> usize as usize;
    let mut bytes = 0;
    for mapping in clean(&smaps, here) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.start);
        // SAFETY: the range is one whole mapping of the program's file, private, not writable, and without a page of its
        // own: whatever is read there next is read from the same file, so no byte of it changes.
        let refused = unsafe { libc::madvise(start, mapping.len(), libc::MADV_DONTNEED) };
        if refused == 0 {
            bytes += mapping.len();
        }
    }
    bytes
}

/// One mapping, as its first line and its `Anonymous` say.
struct Mapping<'a> {
    range: std::ops::Range<usize>,
    is_written: bool,
    /// Device and inode.
    file: (&'a str, &'a str),
}

/// The mappings of the file that `here` is in, but those that are or were written to.
fn clean(smaps: &str, here: usize) -> Vec<std::ops::Range<usize>> {
    let mut mappings: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = head(line) {
            mappings.push(mapping);
        } else if let (Some(kib), Some(mapping)) = (line.strip_prefix("Anonymous:"), mappings.last_mut()) {
            mapping.is_written |= kib.trim() != "0 kB";
        }
    }
    let program = mappings.iter().find(|mapping| mapping.range.contains(&here)).map(|mapping| mapping.file);
    let is_clean = |mapping: &Mapping<'_>| Some(mapping.file) == program && !mapping.is_written;
    mappings.into_iter().filter(is_clean).map(|mapping| mapping.range).collect()
}

/// `55d0c0000000-55d0c0466000 r--p 00000000 fe:00 1234    /usr/bin/sidelight`
fn head(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let (access, _, device, inode) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_written = access.contains('w') || !access.ends_with('p') || inode == "0";
    (start < end).then_some(Mapping { range: start..end, is_written, file: (device, inode) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_still_has_is_let_go() {
        let smaps = "\
5000-6000 r--p 00000000 fe:00 12                        /usr/bin/side light (deleted)
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
6000-9000 r-xp 00001000 fe:00 12                        /usr/bin/side light (deleted)
Anonymous:             0 kB
9000-a000 r--p 00004000 fe:00 12                        /usr/bin/side light (deleted)
Anonymous:             4 kB
a000-b000 rw-p 00005000 fe:00 12                        /usr/bin/side light (deleted)
Anonymous:             0 kB
b000-c000 r--s 00005000 fe:00 12                        /usr/bin/side light (deleted)
Anonymous:             0 kB
c000-d000 r--p 00000000 00:00 0
Anonymous:             0 kB
e000-f000 r-xp 00000000 fe:00 13                        /usr/lib/libc.so.6
Anonymous:             0 kB
";
        assert_eq!(clean(smaps, 0x6010), [0x5000..0x6000, 0x6000..0x9000]);
        assert!(clean(smaps, 0x4000).is_empty(), "it is not known which file the program is");
        assert!(clean("nonsense\n1-0 r--p 0 0 0\nAnonymous: x\n", 1).is_empty());
    }

    #[test]
    fn nothing_changes_but_where_the_bytes_are() {
        // Texts are in pages that go; the table of their addresses is relocated, and stays.
        static NAMES: [&str; 3] = ["one", "two", "three"];
        let before = std::hint::black_box(&NAMES).concat();
        assert!(release() > 0);
        assert_eq!(std::hint::black_box(&NAMES).concat(), before);
        assert_eq!(before, "onetwothree");
    }
}
