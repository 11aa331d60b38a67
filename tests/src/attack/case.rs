//! An attack, as its file tells it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, anyhow, bail, ensure};
use cloister_api::{ByteSize, Limits, Reason};

use super::{Layer, Need, Set};
use crate::{Scratch, emulated};

/// What the kernel may need for a cell and its processes beside what they are charged.
const LEEWAY: ByteSize = ByteSize::mib(32);
/// The same on an emulated processor where the watcher alone stops the attack: the thread that watches gets as
/// little done in a millisecond as the attack, and its clock runs on.
const LEEWAY_OF_EMULATED_WATCHER: ByteSize = ByteSize::mib(160);

/// One attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Folder and file, such as `kernel/new_user_namespace`.
    pub name: String,
    /// What it tries, in a sentence.
    pub about: String,
    /// What is said to stop it, each by itself.
    pub layers: Set,
    /// Further words for `cloister run`.
    pub options: Vec<String>,
    /// What is run instead of Python with the file, for which `CASE` stands.
    pub argv: Option<Vec<String>>,
    /// The reason that the result must have.
    pub verdict: Option<Reason>,
    /// A file, below the suite's folder, that runs in a cell of its own meanwhile.
    pub neighbour: Option<PathBuf>,
    /// What has to be there for it.
    pub needs: Vec<Need>,
    /// By how much the host's kernel memory may grow while it runs, in bytes, if that is measured.
    pub kernel_memory: Option<u64>,
}

impl Case {
    /// Reads the header of the file `name`.py below `folder`. Whatever it does not understand is an
    /// error.
    pub fn read(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(name).with_extension("py");
        let text = fs::read_to_string(&path);
        let case = text.map_err(Into::into).and_then(|text| Self::parse(name, &text));
        let case = case.with_context(|| format!("{} is no case", path.display()))?;
        if let Some(neighbour) = &case.neighbour {
            let path = folder.join(neighbour);
            ensure!(path.is_file(), "{name}: the neighbour {} is missing", path.display());
        }
        Ok(case)
    }

    /// Understands the header of a file with this text.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let docstring = text
            .strip_prefix(r#"""""#)
            .and_then(|rest| rest.split_once(r#"""""#))
            .context("it does not begin with a docstring")?
            .0;
        let (about, header) =
            docstring.split_once("\n\n").context("no header is in its docstring")?;
        let mut keys = Keys::parse(header)?;
        let options = keys.take("options").map(words).unwrap_or_default();
        let limits = limits(&options)?;
        let measured = keys.take("measures").map(kernel_memory).transpose()?.is_some();
        let layers: Set = keys.take("layers").context("it names no layers")?.parse()?;
        let watched = layers.contains("watcher".parse()?);
        let leeway = if watched && emulated() { LEEWAY_OF_EMULATED_WATCHER } else { LEEWAY };
        let case = Self {
            name: name.into(),
            about: about.split_whitespace().collect::<Vec<_>>().join(" "),
            layers,
            argv: keys.take("argv").map(words),
            verdict: keys.take("verdict").map(reason).transpose()?,
            neighbour: keys.take("neighbour").map(|file| beside(name, file)).transpose()?,
            needs: keys
                .take("needs")
                .map(|needs| needs.split(',').map(|need| need.trim().parse()).collect())
                .transpose()?
                .unwrap_or_default(),
            kernel_memory: measured.then_some(limits.memory.0 + leeway.0),
            options,
        };
        keys.finish()?;
        Ok(case)
    }

    /// Its file, below the suite's folder.
    pub fn file(&self) -> PathBuf {
        Path::new(&self.name).with_extension("py")
    }

    /// The limits that its options ask for, as far as other sandboxes have them too.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        limits(&self.options)
    }

    /// Why it makes no sense on this machine, if so.
    pub fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.missing())
    }

    /// Whether each layer that it names can be left out of a build.
    pub fn can_be_ablated(&self) -> bool {
        self.layers.iter().all(Layer::has_switch)
    }
}

/// `key: value` lines.
struct Keys<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    fn parse(header: &'a str) -> anyhow::Result<Self> {
        let mut keys = BTreeMap::new();
        for line in header.trim_end().lines() {
            let (key, value) =
                line.split_once(':').with_context(|| format!("{line:?} is no \"key: value\""))?;
            let value = value.trim();
            ensure!(!value.is_empty(), "{key} has no value");
            ensure!(keys.insert(key, value).is_none(), "{key} is there twice");
        }
        Ok(Self(keys))
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    fn finish(self) -> anyhow::Result<()> {
        match self.0.into_keys().next() {
            Some(key) => bail!("no key is called {key:?}"),
            None => Ok(()),
        }
    }
}

fn kernel_memory(what: &str) -> anyhow::Result<()> {
    ensure!(what == "kernel memory", "nothing that can be measured is called {what:?}");
    Ok(())
}

/// The limits that a cell with these options has, as far as other sandboxes have them too.
fn limits(options: &[String]) -> anyhow::Result<Limits> {
    let value = |option: &str| {
        let mut words = options.iter().skip_while(|word| *word != option);
        words.nth(1).map(String::as_str)
    };
    let size = |option, default| match value(option) {
        None => Ok(default),
        Some(size) => ByteSize::from_str(size).map_err(|error| anyhow!("{option} {error}")),
    };
    let count = |option, default| match value(option) {
        None => Ok(default),
        Some(count) => count.parse().with_context(|| format!("{option} {count} is no number")),
    };
    let usual = Limits::default();
    Ok(Limits {
        memory: size("--memory", usual.memory)?,
        disk: size("--disk", usual.disk)?,
        pids: count("--pids", usual.pids)?,
        open_files: count("--open-files", usual.open_files)?,
        ..usual
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(Into::into).collect()
}

/// By the name that a result has for it.
fn reason(name: &str) -> anyhow::Result<Reason> {
    serde_json::from_value(name.into()).with_context(|| format!("no verdict is called {name:?}"))
}

fn beside(name: &str, neighbour: &str) -> anyhow::Result<PathBuf> {
    ensure!(
        is_helper(Path::new(neighbour)),
        "the neighbour {neighbour:?} must begin with an underscore, or it would be a case"
    );
    Ok(Path::new(name).with_file_name(neighbour))
}

/// Whether a file is there for cases, and none itself.
fn is_helper(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"))
}

/// All cases, and a copy of their files that every cell can be shown, wherever the sources are.
pub struct Suite {
    /// In the order of their names.
    pub cases: Vec<Case>,
    copy: Scratch,
}

impl Suite {
    /// `CLOISTER_ATTACKS`, or the folder of the source tree.
    pub fn default_folder() -> PathBuf {
        if let Some(folder) = std::env::var_os("CLOISTER_ATTACKS") {
            return folder.into();
        }
        // As cargo says when it starts this program; what was compiled in may be of another checkout,
        // where two share a target folder.
        let package = std::env::var_os("CARGO_MANIFEST_DIR");
        let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        PathBuf::from(package).join("attacks")
    }

    /// Reads the cases in the folders of `folder`: each `*.py` whose name begins with no underscore.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let copy = Scratch::new("attacks");
        let mut names = Vec::new();
        for path in python_files(folder)? {
            publish(&path, &copy.join(path.file_name().expect("a listed file has a name")))?;
        }
        for section in list(folder)?.into_iter().filter(|path| path.is_dir()) {
            let section_name = section.file_name().expect("a listed folder has a name");
            let target = copy.join(section_name);
            fs::create_dir(&target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
            for path in python_files(&section)? {
                let name = path.file_name().expect("a listed file has a name");
                publish(&path, &target.join(name))?;
                if !is_helper(&path) {
                    let name = Path::new(section_name).join(name).with_extension("");
                    names.push(name.to_str().context("a name is not UTF-8")?.to_owned());
                }
            }
        }
        fs::set_permissions(&*copy, fs::Permissions::from_mode(0o755))?;
        names.sort();
        ensure!(!names.is_empty(), "no attack is in {}", folder.display());
        let cases = names.iter().map(|name| Case::read(folder, name)).collect::<Result<_, _>>()?;
        Ok(Self { cases, copy })
    }

    /// Where cells find them.
    pub fn folder(&self) -> &Path {
        &self.copy
    }
}

/// The entries of a folder, in the order of their names.
fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn python_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = list(folder)?;
    paths.retain(|path| path.is_file() && path.extension() == Some(OsStr::new("py")));
    Ok(paths)
}

/// Copies a file so that anybody may read it.
fn publish(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o644))?)
}
