//! Sealed entries: AES-256-GCM with a key for each account, so that deleting one file forgets one account.
//!
//! The keys are files in a directory outside of the recording, made on first use and readable by their owner only: `master`,
//! and for each account one named by the hexadecimal HMAC-SHA256 of the account under the master key, so that a listing
//! tells no account. Entries without an account have the key of "". An account's entries cannot be read any more when its file
//! is gone ([`Keys::forget`], GDPR art. 17); all others can. A copy of the directory in a backup keeps the key too.
//!
//! What is sealed is compressed before (zstd), since what is sealed cannot be; its length tells how well it compressed.
//! Nonces are random (96 bits); a key seals at most 2³² messages while a process has it in memory (NIST SP
//! 800-38D, section 8.3), and refuses then. The key's id is the beginning of its file's name and part of what is authenticated, as is `aad`.
//! Source: <https://nvlpubs.nist.gov/nistpubs/Legacy/SP/nistspecialpublication800-38d.pdf>.
//!
//! How it fails: a key that is gone is [`Error::Forgotten`]; what was changed, or sealed with another key of that name, is
//! [`Error::Damaged`]; a directory that cannot be read or written is a text with the path.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use foldhash::{HashMap, HashMapExt};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a key's id.
pub const KEY_ID_BYTES: usize = 16;
/// Most keys in memory; beyond them the one that was used least recently goes.
const KEYS_MAX: usize = 1024;
/// Most messages of one key, as random nonces allow (NIST SP 800-38D, section 8.3).
const MESSAGES_MAX: u64 = 1 << 32;
/// Longest text that comes out.
const PLAIN_BYTES_MAX: usize = 256 << 20;
const MASTER: &str = "master";
const DOMAIN: &[u8] = b"sidelight recording key v1\0";

/// A sealed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which key; see the module.
    pub key_id: [u8; KEY_ID_BYTES],
    /// Never the same twice for a key.
    pub nonce: [u8; NONCE_LEN],
    /// With its tag of 16 bytes at the end.
    pub ciphertext: Vec<u8>,
}

/// Why an entry cannot be sealed or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The account's key was deleted, or is in another directory.
    Forgotten,
    /// It was changed, or cut, or is of another recording.
    Damaged,
    /// The directory or a key in it; with the path and what to do.
    Keys(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Forgotten => f.write_str(
                "sealed, and its key is gone: the account was forgotten, or the keys are elsewhere",
            ),
            Error::Damaged => {
                f.write_str("sealed, and not as it was written: damaged, or of another recording")
            }
            Error::Keys(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

/// What the seal is for: part of what is authenticated.
pub const PURPOSE: &[u8] = b"sidelight recording 1";

impl Sealed {
    /// As it lies in a segment: the key's id, the nonce, the ciphertext.
    pub fn encode(&self) -> Vec<u8> {
        [&self.key_id[..], &self.nonce, &self.ciphertext].concat()
    }

    /// What [`Sealed::encode`] wrote.
    ///
    /// # Errors
    /// It is too short.
    pub fn decode(bytes: &[u8]) -> Result<Sealed, Error> {
        let (key_id, rest) = bytes.split_first_chunk().ok_or(Error::Damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(Error::Damaged)?;
        Ok(Sealed { key_id: *key_id, nonce: *nonce, ciphertext: ciphertext.into() })
    }
}

struct Key {
    key: LessSafeKey,
    /// How many it sealed.
    messages: u64,
    /// When it was used last, in uses of all keys.
    used: u64,
}

/// The keys of a directory. One for each thread.
pub struct Keys {
    directory: PathBuf,
    master: hmac::Key,
    cache: HashMap<[u8; KEY_ID_BYTES], Key>,
    uses: u64,
    /// The account that was asked for last; entries come in runs.
    last: Option<(Vec<u8>, [u8; KEY_ID_BYTES])>,
    compressed: Vec<u8>,
    /// When the directory was changed last, as far as it was looked at.
    changed: Option<SystemTime>,
}

impl Keys {
    /// Opens the directory; makes it and its master key where they are missing.
    ///
    /// # Errors
    /// The path, and what to do.
    pub fn open(directory: &Path) -> Result<Keys, String> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let cannot =
            |error: io::Error| format!("{}: cannot be the directory of keys: {error}", directory.display());
        builder.create(directory).map_err(cannot)?;
        let path = directory.join(MASTER);
        let secret = match read_key(&path) {
            Err(Error::Forgotten) if has_keys(directory).map_err(cannot)? => {
                return Err(format!(
                    "{}: is missing, but there are keys of accounts; put the right one back",
                    path.display()
                ));
            }
            Err(Error::Forgotten) => make_key(&path).map_err(|error| error.to_string())?,
            other => other.map_err(|error| error.to_string())?,
        };
        Ok(Keys {
            directory: directory.to_owned(),
            master: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            cache: HashMap::new(),
            uses: 0,
            last: None,
            compressed: Vec::new(),
            changed: None,
        })
    }

    /// The id of an account's key.
    pub fn key_id(&mut self, account: &str) -> [u8; KEY_ID_BYTES] {
        if let Some((last, id)) = &self.last
            && last == account.as_bytes()
        {
            return *id;
        }
        let mut context = hmac::Context::with_key(&self.master);
        context.update(DOMAIN);
        context.update(account.as_bytes());
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(context.sign().as_ref()).for_each(|(slot, byte)| *slot = *byte);
        self.last = Some((account.as_bytes().to_vec(), id));
        id
    }

    /// Compresses and seals an entry of an account (`""`: of none). `aad` must be the same to read it.
    ///
    /// # Errors
    /// [`Error::Keys`]: the key cannot be made or read, or has sealed all that it may.
    pub fn seal(&mut self, account: &str, plaintext: &[u8], aad: &[u8]) -> Result<Sealed, Error> {
        let key_id = self.key_id(account);
        let mut compressed = std::mem::take(&mut self.compressed);
        let result = self.seal_with(key_id, plaintext, aad, &mut compressed);
        self.compressed = compressed;
        result
    }

    fn seal_with(
        &mut self,
        key_id: [u8; KEY_ID_BYTES],
        plaintext: &[u8],
        aad: &[u8],
        compressed: &mut Vec<u8>,
    ) -> Result<Sealed, Error> {
        let cannot = |what: &str| Error::Keys(format!("cannot seal an entry: {what}"));
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        zstd::zstd_safe::compress(compressed, plaintext, 1).map_err(|_| cannot("zstd failed"))?;
        let path = self.path(&key_id);
        let key = self.key(key_id, true)?;
        if key.messages >= MESSAGES_MAX {
            let what =
                format!("{} sealed as many as it may; begin with another directory of keys", path.display());
            return Err(cannot(&what));
        }
        key.messages += 1;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| cannot("the system gives no random numbers"))?;
        let mut ciphertext = Vec::with_capacity(compressed.len() + AES_256_GCM.tag_len());
        ciphertext.extend_from_slice(compressed);
        let aad = Aad::from([&key_id[..], aad].concat());
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut ciphertext)
            .map_err(|_| cannot("it is too long"))?;
        Ok(Sealed { key_id, nonce, ciphertext })
    }

    /// Reads what was sealed.
    ///
    /// # Errors
    /// [`Error::Forgotten`], [`Error::Damaged`], or [`Error::Keys`] where the key's file cannot be read.
    pub fn unseal(&mut self, sealed: &Sealed, aad: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.key(sealed.key_id, false)?;
        let mut buffer = sealed.ciphertext.clone();
        let aad = Aad::from([&sealed.key_id[..], aad].concat());
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let compressed = key.key.open_in_place(nonce, aad, &mut buffer).map_err(|_| Error::Damaged)?;
        let mut plain = Vec::new();
        let decoder = zstd::stream::read::Decoder::with_buffer(&*compressed).map_err(|_| Error::Damaged)?;
        decoder.take(PLAIN_BYTES_MAX as u64 + 1).read_to_end(&mut plain).map_err(|_| Error::Damaged)?;
        if plain.len() > PLAIN_BYTES_MAX { Err(Error::Damaged) } else { Ok(plain) }
    }

    /// Deletes an account's key; what was sealed with it can never be read again. Whether there was one. Other
    /// processes notice by [`Keys::drop_deleted`].
    ///
    /// # Errors
    /// [`Error::Keys`]: the file cannot be deleted.
    pub fn forget(&mut self, account: &str) -> Result<bool, Error> {
        let id = self.key_id(account);
        self.cache.remove(&id);
        self.last = None;
        let path = self.path(&id);
        match fs::remove_file(&path) {
            Ok(()) => File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map(|()| true)
                .map_err(|error| Error::Keys(format!("{}: {error}", self.directory.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::Keys(format!("{}: cannot be deleted: {error}", path.display()))),
        }
    }

    /// Drops keys from memory whose files somebody deleted: what is sealed from now on has new ones. Costs one look at the
    /// directory where nothing changed.
    pub fn drop_deleted(&mut self) {
        let changed = fs::metadata(&self.directory).and_then(|found| found.modified()).ok();
        if changed.is_some() && changed == self.changed {
            return;
        }
        let ids: Vec<_> = self.cache.keys().copied().collect();
        for id in ids {
            if matches!(self.path(&id).try_exists(), Ok(false)) {
                self.cache.remove(&id);
            }
        }
        // A change in the same tick of the file system's clock would not be seen.
        let is_settled = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > Duration::from_secs(2));
        self.changed = changed.filter(is_settled);
    }

    fn path(&self, id: &[u8; KEY_ID_BYTES]) -> PathBuf {
        let mut name = String::with_capacity(2 * KEY_ID_BYTES);
        for byte in id {
            for half in [byte >> 4, byte & 15] {
                name.extend(char::from_digit(half.into(), 16));
            }
        }
        self.directory.join(name)
    }

    fn key(&mut self, id: [u8; KEY_ID_BYTES], may_make: bool) -> Result<&mut Key, Error> {
        self.uses += 1;
        if !self.cache.contains_key(&id) {
            let path = self.path(&id);
            let secret = match read_key(&path) {
                Err(Error::Forgotten) if may_make => make_key(&path)?,
                other => other?,
            };
            let key = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| Error::Damaged)?;
            if self.cache.len() >= KEYS_MAX
                && let Some(oldest) = self.cache.iter().min_by_key(|(_, key)| key.used).map(|(id, _)| *id)
            {
                self.cache.remove(&oldest);
            }
            self.cache.insert(id, Key { key: LessSafeKey::new(key), messages: 0, used: 0 });
        }
        let uses = self.uses;
        let key = self.cache.get_mut(&id).ok_or(Error::Forgotten)?;
        key.used = uses;
        Ok(key)
    }
}

/// Whether there are keys of accounts.
fn has_keys(directory: &Path) -> io::Result<bool> {
    for file in fs::read_dir(directory)? {
        if file?.file_name().len() == 2 * KEY_ID_BYTES {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], Error> {
    let wrong = |what: String| Error::Keys(format!("{}: {what}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Forgotten),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others may read this key (mode {:o}); chmod 600 it", mode & 0o777)));
    }
    let mut secret = Vec::with_capacity(KEY_BYTES + 1);
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut secret).map_err(|error| wrong(error.to_string()))?;
    let len = secret.len();
    secret.try_into().map_err(|_| wrong(format!("is no key: it has {len} bytes and not {KEY_BYTES}")))
}

/// Makes a key, whole or not at all; one that another process made meanwhile is taken.
fn make_key(path: &Path) -> Result<[u8; KEY_BYTES], Error> {
    let cannot = |error: io::Error| Error::Keys(format!("{}: cannot be made: {error}", path.display()));
    let (mut secret, mut mark) = ([0; KEY_BYTES], [0; 8]);
    let random = rand::fill(&mut secret).and_then(|()| rand::fill(&mut mark));
    random.map_err(|_| cannot(io::Error::other("the system gives no random numbers")))?;
    let draft = path.with_extension(format!("{:x}.new", u64::from_ne_bytes(mark)));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::hard_link(&draft, path) // fails where there is one already
        });
    let removed = fs::remove_file(&draft);
    match written {
        Ok(()) => {
            removed.map_err(cannot)?;
            let directory = path.parent().unwrap_or(Path::new("."));
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(cannot)?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(cannot(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_is_sealed_is_read_again_by_another_process_and_hides_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let mut keys = Keys::open(&path).unwrap();
        let plain = b"an entry of acme with much in it ".repeat(20);
        let sealed = keys.seal("acme", &plain, b"segment 1").unwrap();
        assert!(sealed.ciphertext.len() < plain.len() / 4);
        assert!(!sealed.ciphertext.windows(4).any(|window| window == b"acme"));
        let mut others = Keys::open(&path).unwrap();
        assert_eq!(others.unseal(&sealed, b"segment 1").unwrap(), plain);
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            assert!(!file.file_name().to_string_lossy().contains("acme"));
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    }

    #[test]
    fn an_account_is_forgotten_and_the_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path()).unwrap();
        let [acme, none, globex] =
            ["acme", "", "globex"].map(|account| keys.seal(account, account.as_bytes(), b"").unwrap());
        assert_eq!(keys.forget("acme"), Ok(true));
        assert_eq!(keys.forget("acme"), Ok(false));
        for keys in [&mut keys, &mut Keys::open(directory.path()).unwrap()] {
            assert_eq!(keys.unseal(&acme, b""), Err(Error::Forgotten));
            assert_eq!(keys.unseal(&none, b"").unwrap(), b"");
            assert_eq!(keys.unseal(&globex, b"").unwrap(), b"globex");
        }
        // A new key of the account does not open what the old one sealed.
        let again = keys.seal("acme", b"new", b"").unwrap();
        assert_eq!(again.key_id, acme.key_id);
        assert_eq!(keys.unseal(&acme, b""), Err(Error::Damaged));
        assert_eq!(keys.unseal(&again, b"").unwrap(), b"new");
    }

    #[test]
    fn a_key_that_somebody_deletes_is_not_used_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path()).unwrap();
        let [acme, globex] = ["acme", "globex"].map(|account| keys.seal(account, b"old", b"").unwrap());
        keys.drop_deleted();
        assert!(Keys::open(directory.path()).unwrap().forget("acme").unwrap());
        keys.drop_deleted();
        assert_eq!(keys.unseal(&acme, b""), Err(Error::Forgotten));
        assert_eq!(keys.unseal(&globex, b"").unwrap(), b"old");
        let again = keys.seal("acme", b"new", b"").unwrap();
        let mut others = Keys::open(directory.path()).unwrap();
        assert_eq!(others.unseal(&again, b"").unwrap(), b"new", "its key is in the directory");
        assert_eq!(others.unseal(&acme, b""), Err(Error::Damaged));
    }

    #[test]
    fn what_was_changed_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path()).unwrap();
        let sealed = keys.seal("acme", b"text", b"place 7").unwrap();
        assert_eq!(keys.unseal(&sealed, b"place 8"), Err(Error::Damaged));
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert_eq!(keys.unseal(&changed, b"place 7"), Err(Error::Damaged));
            changed.ciphertext.truncate(at);
            assert_eq!(keys.unseal(&changed, b"place 7"), Err(Error::Damaged));
        }
    }

    #[test]
    fn nonces_differ_and_keys_in_memory_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(directory.path()).unwrap();
        let nonces: HashSet<_> = (0..5000).map(|_| keys.seal("a", b"x", b"").unwrap().nonce).collect();
        assert_eq!(nonces.len(), 5000);
        let first = keys.seal("account 0", b"first", b"").unwrap();
        for number in 0..KEYS_MAX - keys.cache.len() {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[0; 32]).unwrap());
            keys.cache.insert((number as u128 + 1).to_be_bytes(), Key { key, messages: 0, used: 1_000_000 });
        }
        assert_eq!(keys.unseal(&first, b"").unwrap(), b"first");
        keys.seal("another", b"", b"").unwrap();
        assert_eq!(keys.cache.len(), KEYS_MAX);
        assert_eq!(keys.unseal(&first, b"").unwrap(), b"first");
    }

    #[test]
    fn a_directory_that_is_not_right_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let mut keys = Keys::open(&path).unwrap();
        let sealed = keys.seal("acme", b"x", b"").unwrap();
        let file = keys.path(&sealed.key_id);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::open(&path).unwrap().unseal(&sealed, b"").unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::remove_file(path.join(MASTER)).unwrap();
        assert!(Keys::open(&path).err().unwrap().contains("put the right one back"));
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(Keys::open(&directory.path().join("file")).is_err());
    }
}
