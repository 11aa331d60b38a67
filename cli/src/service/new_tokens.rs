//! New tokens: in files, for a service that is started for the first time, and in memory alone, for the
//! runner of an `up`.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use cloister_web::{Secret, Tokens};
use rustix::rand::{GetRandomFlags, getrandom};

/// Nobody guesses 256 bits.
const BYTES: usize = 32;

/// Makes those of these files that are not there, each with a token of its own.
pub(super) fn create(files: &[Option<&Path>]) -> anyhow::Result<()> {
    for path in files.iter().copied().flatten() {
        let made = create_one(path)
            .with_context(|| format!("cannot make a token in {}", path.display()))?;
        if made {
            tracing::info!(path = %path.display(), "made a new token");
        }
    }
    Ok(())
}

/// Makes one, whole or not at all: another coordinator may do the same at this moment, and all that
/// share the file must come to the same token. Whether it is new.
fn create_one(path: &Path) -> anyhow::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let token = token()?;
    let draft = path.with_extension(format!("{}.new", &token[..8]));
    // Its group too: a runner of another user may be in it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o440).open(&draft);
    let written = file.and_then(|mut file| {
        writeln!(file, "{token}")?;
        file.sync_all()
    });
    // Unlike a rename, a link replaces nothing.
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    });
    let _ = fs::remove_file(&draft);
    Ok(linked?)
}

/// A token that this process alone knows. It is in no file and in no log, and ends with the process.
pub(super) fn own() -> anyhow::Result<Tokens> {
    let token = token().context("cannot make the runner's token")?;
    Ok(Tokens::from(vec![Secret::new(token, "of the runner")?]))
}

fn token() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    // Up to 256 bytes come whole (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |mut token, byte| {
        let _ = write!(token, "{byte:02x}");
        token
    }))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use cloister_web::Tokens;

    use super::*;

    #[test]
    fn a_file_is_made_once_and_whole() {
        let folder = std::env::temp_dir().join(format!("cloister-new-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let (clients, runners) = (folder.join("clients"), folder.join("runners"));
        let makers: usize = thread::scope(|scope| {
            let makers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| create_one(&clients).unwrap())).collect();
            makers.into_iter().map(|maker| usize::from(maker.join().unwrap())).sum()
        });
        assert_eq!(makers, 1, "the others find it");
        let text = fs::read_to_string(&clients).unwrap();
        create(&[Some(&clients), None, Some(&runners)]).unwrap();
        assert_eq!(fs::read_to_string(&clients).unwrap(), text);
        let mode = fs::metadata(&clients).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        let (one, other) = (Tokens::read(Some(&clients), None), Tokens::read(Some(&runners), None));
        let text = text.trim().as_bytes();
        assert!(one.unwrap().find(text).is_some() && other.unwrap().find(text).is_none());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft is left");
        let error = create(&[Some(&folder.join("none/tokens"))]).unwrap_err();
        assert!(format!("{error:#}").contains("No such file"), "{error:#}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
