//! The tokens that open a service, several at once: a new one is added, clients change to it, the old
//! one is taken away, and at no moment does neither open.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    Error, Fingerprint, Reload, Secret,
    secret::{MAX_LENGTH, digest},
};

/// Each request is compared with all of them.
const MAX_TOKENS: usize = 256;
/// So many of the longest, and as much again for comments.
const MAX_FILE: usize = 2 * MAX_TOKENS * MAX_LENGTH;

/// The tokens that are valid now, known to all clones, and read again from their file when told to.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<PathBuf>,
    /// What came by another way than the file, and so never changes.
    given: Vec<Secret>,
    now: watch::Sender<Arc<[Secret]>>,
}

impl From<Vec<Secret>> for Tokens {
    fn from(given: Vec<Secret>) -> Self {
        let now = watch::Sender::new(given.as_slice().into());
        Self(Arc::new(Inner { file: None, given, now }))
    }
}

impl Tokens {
    /// Those of a file, one a line, and the one given otherwise. In the file, blank lines and lines
    /// that begin with `#` say nothing; what holds no token at all is refused. A file that everybody
    /// on the machine can read is a warning in the log: in a container that may be as intended.
    pub fn read(file: Option<&Path>, given: Option<Secret>) -> Result<Self, Error> {
        let given: Vec<Secret> = given.into_iter().collect();
        let listed = file.map(read_file).transpose()?.unwrap_or_default();
        let now = watch::Sender::new([listed, given.clone()].concat().into());
        Ok(Self(Arc::new(Inner { file: file.map(Path::to_owned), given, now })))
    }

    /// Which of them `presented` is, if any. Each one is compared, so that the time does not tell
    /// which one was nearly right.
    pub fn find(&self, presented: &[u8]) -> Option<Fingerprint> {
        let (presented, now) = (digest(presented), self.now());
        let found =
            now.iter().fold(
                None,
                |found, known| {
                    if known.has_digest(&presented) { Some(known) } else { found }
                },
            );
        found.map(Secret::fingerprint)
    }

    /// The one that is shown to others.
    pub fn first(&self) -> Option<Secret> {
        self.now().first().cloned()
    }

    /// Whether there is none. A file that is read again always holds one.
    pub fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    fn now(&self) -> Arc<[Secret]> {
        self.0.now.borrow().clone()
    }
}

impl Reload for Tokens {
    fn files(&self) -> Vec<&Path> {
        self.0.file.as_deref().into_iter().collect()
    }

    fn reload(&self) -> Result<bool, Error> {
        let Some(file) = &self.0.file else {
            return Ok(false);
        };
        let now = [read_file(file)?, self.0.given.clone()].concat();
        let prints: Vec<_> = now.iter().map(|secret| secret.fingerprint().to_string()).collect();
        tracing::info!(
            path = %file.display(), valid = prints.join(","), "the token file was read again"
        );
        self.0.now.send_replace(now.into());
        Ok(true)
    }
}

fn read_file(path: &Path) -> Result<Vec<Secret>, Error> {
    let failed = |cause| Error::TokenFile { path: path.into(), cause };
    let unusable = |reason: String| Error::TokenList { path: path.into(), reason };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.permissions().mode() & 0o004 != 0 {
        tracing::warn!(
            path = %path.display(),
            "everybody on this machine can read the token file; `chmod 600` mends it"
        );
    }
    let mut text = String::new();
    file.take(MAX_FILE as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_FILE {
        return Err(unusable(format!("is longer than {MAX_FILE} bytes")));
    }
    let lines = text.lines().map(str::trim).enumerate();
    let tokens = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let tokens = tokens
        .map(|(at, line)| Secret::new(line, &format!("in line {} of {}", at + 1, path.display())))
        .collect::<Result<Vec<_>, _>>()?;
    match tokens.len() {
        0 => Err(unusable("holds no token; `openssl rand -hex 32` makes one".into())),
        1..=MAX_TOKENS => Ok(tokens),
        more => Err(unusable(format!("holds {more} tokens; {MAX_TOKENS} may be valid at once"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    const OLD: &str = "the-old-token-of-the-test";
    const NEW: &str = "the-new-token-of-the-test";

    /// A folder that goes when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = env::temp_dir().join(format!("cloister-tokens-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Replaces the file in one step, as an operator should.
        fn write(&self, text: &str) -> PathBuf {
            let (new, path) = (self.0.join("new"), self.0.join("tokens"));
            fs::write(&new, text).unwrap();
            fs::rename(new, &path).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn opens(tokens: &Tokens, token: &str) -> bool {
        tokens.find(token.as_bytes()).is_some()
    }

    #[test]
    fn a_file_holds_one_a_line_and_the_first_is_shown() {
        let folder = Folder::new();
        let path = folder.write(&format!("# of March\r\n\n  {NEW} \r\n#{OLD}-not\n{OLD}"));
        let tokens = Tokens::read(Some(&path), None).unwrap();
        assert!(opens(&tokens, NEW) && opens(&tokens, OLD));
        for other in ["", "# of March", "#", &format!("{OLD}-not"), &format!("{NEW}\n{OLD}")] {
            assert!(!opens(&tokens, other), "{other}");
        }
        assert!(tokens.first().unwrap().matches(NEW.as_bytes()));
        let prints = [NEW, OLD].map(|token| tokens.find(token.as_bytes()).unwrap());
        assert_ne!(prints[0], prints[1]);
    }

    #[test]
    fn what_is_no_list_of_tokens_says_why_and_shows_none() {
        let folder = Folder::new();
        let many = format!("{OLD}\n").repeat(MAX_TOKENS + 1);
        for (text, reason) in [
            ("", "holds no token"),
            ("\n# nothing yet\n", "holds no token"),
            (&format!("{OLD}\nhunter2\n"), "line 2"),
            (&format!("{OLD} {NEW}"), "visible ASCII"),
            (&many, "holds 257 tokens"),
            (&"#".repeat(MAX_FILE + 1), "longer"),
        ] {
            let path = folder.write(text);
            let error = Tokens::read(Some(&path), None).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("tokens"), "{error}");
            assert!(!error.contains(OLD) && !error.contains("hunter2"), "{error}");
        }
        let missing = Tokens::read(Some(&folder.0.join("none")), None).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
        // Whoever prints the causes too does not say it twice.
        assert!(std::error::Error::source(&missing).is_none());
        assert!(matches!(Tokens::read(Some(&folder.0), None), Err(Error::TokenFile { .. })));
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = Folder::new();
        let path = folder.write(OLD);
        let given = Secret::new("given-by-the-environment", "of the test").unwrap();
        let tokens = Tokens::read(Some(&path), Some(given)).unwrap();
        let held = tokens.clone();
        folder.write(&format!("{NEW}\n{OLD}\n"));
        assert!(!opens(&held, NEW), "not before it is told");
        assert!(tokens.reload().unwrap());
        assert!(opens(&held, NEW) && opens(&held, OLD));
        for bad in ["", "short"] {
            folder.write(bad);
            assert!(tokens.reload().is_err());
            assert!(opens(&held, NEW) && opens(&held, OLD));
        }
        folder.write(NEW);
        assert!(tokens.reload().unwrap());
        assert!(opens(&held, NEW) && !opens(&held, OLD));
        assert!(opens(&held, "given-by-the-environment"), "it is not of the file");
        assert!(!Tokens::from(Vec::new()).reload().unwrap());
    }

    #[test]
    fn what_stays_valid_opens_at_every_moment() {
        let folder = Folder::new();
        let path = folder.write(OLD);
        let tokens = Tokens::read(Some(&path), None).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(opens(&tokens, OLD));
                }
            });
            for at in 0..200 {
                folder.write(&format!("{NEW}-{at}\n{OLD}\n"));
                tokens.reload().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
