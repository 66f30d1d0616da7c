//! A recording that was kept somewhere else, made again and compared with the one in the proxy's directory.

use e2e::{RawClient, Setup, Sidelight, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Directories that outlive the proxy.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The section `recording`, with copies to this sink.
    pub fn lines(&self, sink: &str) -> String {
        format!("directory: {:?}\nsinks: [{sink}]\nsegment_bytes_max: 64KiB", self.path("recording"))
    }

    /// Files of these names and contents.
    pub fn write(&self, name: &str, lines: &[impl AsRef<[u8]>]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, lines.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(&b'\n'))
            .expect("a file");
        path
    }
}

/// Text that does not compress, so that there are several segments.
pub fn noise(seed: u64) -> String {
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number
    };
    (0..100).map(|_| format!("{:016x}", step())).collect()
}

/// Asks for these, for three accounts.
pub fn ask(proxy: &Sidelight, numbers: std::ops::Range<u64>) {
    let mut client = RawClient::connect(proxy.inbound());
    for number in numbers {
        let body = noise(number);
        let request = format!(
            "POST /{number} HTTP/1.1\r\nHost: shop.example\r\nX-Request-Id: r{number}\r\nX-Account-Id: a{}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            number % 3,
            body.len()
        );
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
}

/// Records so many exchanges, and waits until the proxy has ended.
pub fn record(setup: &Setup, count: u64) {
    let proxy = Sidelight::start(setup);
    ask(&proxy, 0..count);
    wait_for("the recorder to be done", || {
        let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).ok()?;
        (shown["books"]["recorded"] == count).then_some(())
    });
    proxy.stop();
}

pub fn sidelight(arguments: &[&str]) -> Output {
    Command::new(e2e::binary()).args(arguments).output().expect("the binary runs")
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The entries of a recording, as `recording ls` tells them.
pub fn entries(recording: &Path) -> Vec<Value> {
    let listed = sidelight(&["recording", "ls", text(recording), "--entries", "--format", "json"]);
    let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

/// The segments of a recording: names and bytes.
pub fn segments(recording: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(recording).expect("a directory");
    let mut segments: Vec<(String, Vec<u8>)> = files
        .map(|file| file.expect("a file").path())
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            (name, std::fs::read(&path).expect("a file"))
        })
        .collect();
    segments.sort();
    segments
}

/// Makes a recording of these files. What it says, and whether it says that all is well.
pub fn import(files: &[PathBuf], output: &Path) -> (bool, String) {
    let files = files.iter().map(|file| text(file));
    let arguments: Vec<&str> =
        ["recording", "import"].into_iter().chain(files).chain(["-o", text(output)]).collect();
    let done = sidelight(&arguments);
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// What these files have is the recording in the proxy's directory, byte for byte, and so many entries.
pub fn assert_restored(place: &Place, files: &[PathBuf], count: usize) {
    let (recording, restored) = (place.path("recording"), place.path("restored"));
    let (is_well, told) = import(files, &restored);
    assert!(is_well, "{told}");
    let (written, made) = (segments(&recording), segments(&restored));
    let names = |of: &[(String, Vec<u8>)]| {
        of.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>()
    };
    assert_eq!(names(&made), names(&written), "{told}");
    assert!(made == written && made.len() >= 2, "bytes are other ones: {told}");
    for directory in [&recording, &restored] {
        let verified = sidelight(&["recording", "verify", text(directory)]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
    let found = entries(&restored);
    assert_eq!(found.len(), count);
    assert_eq!(found, entries(&recording));
}
