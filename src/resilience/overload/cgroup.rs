//! How much memory is used, and of how much: read from the kernel's files.
//!
//! The memory is that of the cgroup that would be killed: of this process's cgroup and those around it, the one that is
//! fullest. Used is what the kubelet calls the working set: what the kernel accounts for, less file pages that it can
//! drop at once (`inactive_file`). Both versions of cgroups are read, also where a container sees its own cgroup as the
//! root, or a bind mount of it.
//!
//! Reading is a handful of small files that are made by the kernel in memory: nothing there blocks.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits from here up mean that there is none (version 1 writes the largest number of pages).
const UNLIMITED_BYTES: u64 = 1 << 62;
/// How many cgroups around each other are looked at.
const LEVELS_MAX: usize = 16;

/// What is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there are.
    pub limit_bytes: u64,
    /// Whose they are: `cgroup` or `machine`.
    pub of: &'static str,
}

impl Usage {
    /// How full it is.
    pub fn permille(&self) -> u32 {
        let permille = u128::from(self.used_bytes) * 1000 / u128::from(self.limit_bytes.max(1));
        u32::try_from(permille).unwrap_or(u32::MAX)
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Meter {
    /// What the configuration says there is.
    memory_bytes: Option<u64>,
    /// This process's cgroup, then those around it.
    levels: Vec<PathBuf>,
    files: Files,
    meminfo: PathBuf,
}

/// The names of the files in a cgroup's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    inactive_file: &'static str,
}

const V2: Files = Files { limit: "memory.max", usage: "memory.current", inactive_file: "inactive_file" };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
};

impl Meter {
    /// A meter of this process. `memory`: `limits.overload.memory`.
    pub fn new(memory: Option<usize>) -> Meter {
        Meter::at(Path::new("/"), memory)
    }

    /// The same, of a machine whose root is `root`.
    pub fn at(root: &Path, memory: Option<usize>) -> Meter {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (cgroups, mounts) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
        let found = directory(&cgroups, &mounts);
        let (levels, files) = match found {
            None => (Vec::new(), V2),
            Some((mount, below, files)) => {
                let mount = root.join(mount.trim_start_matches('/'));
                let own = mount.join(below.trim_start_matches('/'));
                // A path of another namespace is not there: then the mount itself is this process's cgroup.
                let own = if own.is_dir() { own } else { mount.clone() };
                let around = own.ancestors().take_while(|level| level.starts_with(&mount));
                (around.take(LEVELS_MAX).map(Path::to_owned).collect(), files)
            }
        };
        Meter {
            memory_bytes: memory.map(|memory| memory as u64),
            levels,
            files,
            meminfo: root.join("proc/meminfo"),
        }
    }

    /// Looks. `None`: there is no limit, or nothing can be read.
    pub fn measure(&self) -> Option<Usage> {
        let of_own = |(depth, used_bytes, limit): (usize, u64, Option<u64>)| {
            // What the configuration says holds for the own cgroup; those around it have others in them.
            let configured = self.memory_bytes.filter(|_| depth == 0);
            let limit_bytes = configured.into_iter().chain(limit).min()?;
            Some(Usage { used_bytes, limit_bytes, of: "cgroup" })
        };
        let readable = self.levels.iter().enumerate().filter_map(|(depth, level)| {
            let (used_bytes, limit) = self.read(level)?;
            Some((depth, used_bytes, limit))
        });
        let fullest = readable.filter_map(of_own).max_by_key(Usage::permille);
        fullest.or_else(|| {
            let limit_bytes = self.memory_bytes?;
            let (total, available) = parse_meminfo(&fs::read_to_string(&self.meminfo).ok()?)?;
            Some(Usage { used_bytes: total.saturating_sub(available), limit_bytes, of: "machine" })
        })
    }

    /// Used bytes and limit of one cgroup.
    fn read(&self, level: &Path) -> Option<(u64, Option<u64>)> {
        let text = |name: &str| fs::read_to_string(level.join(name)).ok();
        let limit = text(self.files.limit).and_then(|text| parse_limit(&text));
        // Without a limit the rest is of interest only where the configuration has one.
        if limit.is_none() && self.memory_bytes.is_none() {
            return None;
        }
        let usage: u64 = text(self.files.usage)?.trim().parse().ok()?;
        let stat = text("memory.stat").unwrap_or_default();
        let inactive = parse_stat(&stat, self.files.inactive_file).unwrap_or(0);
        Some((usage.saturating_sub(inactive), limit))
    }
}

/// Mount point of the cgroups that account for memory, this process's path below it, and how the files there are named.
fn directory(cgroups: &str, mounts: &str) -> Option<(String, String, Files)> {
    // id:controllers:path; version 2 has the id 0 and no controllers. A machine may have both; one has the memory.
    let path_of = |is_wanted: &dyn Fn(&str) -> bool| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            is_wanted(controllers).then_some(path)
        })
    };
    let is_memory = |controllers: &str| controllers.split(',').any(|name| name == "memory");
    let mounted = |kind: &str, option: Option<&str>| {
        mounts.lines().filter_map(parse_mount).find(|mount| {
            mount.kind == kind
                && option.is_none_or(|option| mount.options.split(',').any(|own| own == option))
        })
    };
    let (path, mount, files) = match path_of(&is_memory) {
        Some(path) => (path, mounted("cgroup", Some("memory"))?, V1),
        None => (path_of(&str::is_empty)?, mounted("cgroup2", None)?, V2),
    };
    // The mount may show a part of the tree only: what it shows is cut off the path.
    let below = match mount.root.as_str() {
        "/" => path,
        root => path
            .strip_prefix(root)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or_default(),
    };
    // A path that leads out of this namespace cannot be followed.
    let below = if below.split('/').any(|part| part == "..") { "" } else { below };
    Some((mount.point, below.to_owned(), files))
}

/// A line of mountinfo (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: String,
    point: String,
    kind: String,
    options: String,
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
    let unescape = |text: &str| text.replace("\\040", " ");
    Some(Mount { root: unescape(root), point: unescape(point), kind: kind.into(), options: options.into() })
}

/// A limit in bytes; `None` for no limit.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED_BYTES)
}

/// The number behind `key` in a file of lines `key number`.
fn parse_stat(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        if name == key { number.trim().parse().ok() } else { None }
    })
}

/// Bytes of the machine, and how many of them are available.
fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let bytes_of = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kilobytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    Some((bytes_of("MemTotal")?, bytes_of("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const MIB: u64 = 1 << 20;

    /// A machine with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn usage(used: u64, limit: u64, of: &'static str) -> Option<Usage> {
        Some(Usage { used_bytes: used * MIB, limit_bytes: limit * MIB, of })
    }

    const MEMINFO: &str = "MemTotal:       24684092 kB\nMemFree:        23373604 kB\nMemAvailable:   24139532 kB\n\
                           Buffers:            2440 kB\n";
    const V2_MOUNT: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
         29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V2_STAT: &str = "anon 209715200\nfile 104857600\nkernel 4194304\ninactive_anon 0\nactive_anon 209715200\n\
                           inactive_file 94371840\nactive_file 10485760\n";

    #[test]
    fn a_container_with_its_own_namespace_sees_its_limit_at_the_root() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "536870912\n"),
            ("sys/fs/cgroup/memory.current", "314572800\n"),
            ("sys/fs/cgroup/memory.stat", V2_STAT),
        ]);
        assert_eq!(Meter::at(root.path(), None).measure(), usage(210, 512, "cgroup"));
        assert_eq!(Meter::at(root.path(), Some(300 << 20)).measure(), usage(210, 300, "cgroup"));
        let more = Meter::at(root.path(), Some(1 << 30)).measure();
        assert_eq!(more, usage(210, 512, "cgroup"), "the kernel's limit holds whatever is configured");
    }

    /// A service of systemd without a limit, in a slice with one.
    #[test]
    fn the_fullest_of_the_cgroups_around_counts() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/app.slice/sidelight.service\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.stat", ""),
            ("sys/fs/cgroup/app.slice/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/app.slice/memory.current", "943718400\n"),
            ("sys/fs/cgroup/app.slice/memory.stat", "inactive_file 0\n"),
            ("sys/fs/cgroup/app.slice/sidelight.service/memory.max", "max\n"),
            ("sys/fs/cgroup/app.slice/sidelight.service/memory.current", "10485760\n"),
            ("sys/fs/cgroup/app.slice/sidelight.service/memory.stat", "inactive_file 0\n"),
        ]);
        assert_eq!(Meter::at(root.path(), None).measure(), usage(900, 1024, "cgroup"));
        assert_eq!(Meter::at(root.path(), Some(11 << 20)).measure(), usage(10, 11, "cgroup"));
        // Another limit in a running pod.
        fs::write(root.path().join("sys/fs/cgroup/app.slice/sidelight.service/memory.max"), "10485760")
            .unwrap();
        assert_eq!(Meter::at(root.path(), None).measure(), usage(10, 10, "cgroup"));
    }

    #[test]
    fn version_1_in_a_container_that_sees_the_path_of_the_host() {
        let root = machine(&[
            (
                "proc/self/cgroup",
                "9:name=systemd:/docker/abc\n4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n",
            ),
            (
                "proc/self/mountinfo",
                "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "264241152\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 0\ntotal_inactive_file 20971520\n"),
        ]);
        assert_eq!(Meter::at(root.path(), None).measure(), usage(232, 256, "cgroup"));
    }

    #[test]
    fn without_a_limit_nothing_is_measured_unless_memory_is_configured() {
        let root = machine(&[
            ("proc/self/cgroup", "4:memory:/user\n0::/\n"),
            ("proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            ("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/user/memory.usage_in_bytes", "52428800\n"),
            ("sys/fs/cgroup/memory/user/memory.stat", "total_inactive_file 0\n"),
            ("proc/meminfo", MEMINFO),
        ]);
        assert_eq!(Meter::at(root.path(), None).measure(), None);
        assert_eq!(Meter::at(root.path(), Some(100 << 20)).measure(), usage(50, 100, "cgroup"));
    }

    #[test]
    fn a_machine_without_cgroups_is_measured_as_a_whole() {
        let root = machine(&[("proc/meminfo", MEMINFO)]);
        assert_eq!(Meter::at(root.path(), None).measure(), None);
        let used_bytes = (24_684_092 - 24_139_532) * 1024;
        let expected = Usage { used_bytes, limit_bytes: 1 << 30, of: "machine" };
        assert_eq!(Meter::at(root.path(), Some(1 << 30)).measure(), Some(expected));
        assert_eq!(Meter::at(Path::new("/nowhere"), Some(1 << 30)).measure(), None);
    }

    #[test]
    fn paths_out_of_this_namespace_are_not_followed() {
        let mounts = "29 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let (mount, below, _) = directory("0::/../../other\n", mounts).unwrap();
        assert_eq!((mount.as_str(), below.as_str()), ("/sys/fs/cgroup", "/other"));
        let (_, below, _) = directory("0::/../other\n", V2_MOUNT).unwrap();
        assert_eq!(below, "");
        let mounts = "29 23 0:26 /a /sys/fs/c\\040g rw - cgroup2 cgroup2 rw\n";
        assert_eq!(directory("0::/ab/c\n", mounts).unwrap(), ("/sys/fs/c g".into(), String::new(), V2));
        assert_eq!(directory("", mounts), None);
        assert_eq!(directory("0::/\n", "garbage\n29 - \n1 2 3 4 5 - cgroup2\n"), None);
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let limits: HashMap<&str, Option<u64>> = [
            ("max\n", None),
            ("1024\n", Some(1024)),
            ("9223372036854771712\n", None),
            ("", None),
            ("-1", None),
        ]
        .into();
        for (text, expected) in limits {
            assert_eq!(parse_limit(text), expected, "{text:?}");
        }
        assert_eq!(parse_stat(V2_STAT, "inactive_file"), Some(94_371_840));
        assert_eq!(parse_stat("inactive_file\ninactive_file x\n", "inactive_file"), None);
        assert_eq!(parse_meminfo(MEMINFO), Some((24_684_092 << 10, 24_139_532 << 10)));
        assert_eq!(parse_meminfo("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn fullness_does_not_overflow() {
        let of = "cgroup";
        assert_eq!(Usage { used_bytes: u64::MAX, limit_bytes: 0, of }.permille(), u32::MAX);
        assert_eq!(Usage { used_bytes: 85, limit_bytes: 100, of }.permille(), 850);
    }
}
