//! Which cgroup hierarchies are mounted where, and where this process stands in each
//! (cgroups(7), `proc_pid_mountinfo(5)`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Version;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Of v1, those it was mounted with; of v2, those that its top folder offers.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) top: PathBuf,
    /// The folder of this process's own cgroup.
    pub(crate) own: PathBuf,
    /// Whether `memory.events` of a cgroup leaves out those below it: v1 has no other way, v2 is
    /// mounted with `memory_localevents` for that.
    pub(crate) local_events: bool,
}

/// All of them, as this process sees them.
pub(crate) fn mounted() -> io::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let membership = fs::read_to_string("/proc/self/cgroup")?;
    let mut found = parse(&mounts, &membership);
    for hierarchy in &mut found {
        if hierarchy.version == Version::V2 {
            // One that can't be read offers nothing; the others may.
            let list = fs::read_to_string(hierarchy.top.join("cgroup.controllers"));
            let list = list.unwrap_or_default();
            hierarchy.controllers = list.split_ascii_whitespace().map(String::from).collect();
        }
    }
    Ok(found)
}

fn parse(mounts: &str, membership: &str) -> Vec<Hierarchy> {
    mounts.lines().filter_map(|line| parse_mount(line, membership)).collect()
}

/// Where hierarchies are mounted, and the own cgroup in each.
#[cfg(fuzzing)]
pub(crate) fn folders(mounts: &str, membership: &str) -> Vec<(PathBuf, PathBuf)> {
    parse(mounts, membership).into_iter().map(|found| (found.top, found.own)).collect()
}

/// `36 35 98:0 /root /mount/point options - type source super-options`
fn parse_mount(line: &str, membership: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, top) = (left.next()?, PathBuf::from(unescape(left.next()?)));
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup2" => Version::V2,
        "cgroup" => Version::V1,
        _ => return None,
    };
    let options = right.nth(1)?.split(',');
    let local_events = version == Version::V1 || options.clone().any(|o| o == "memory_localevents");
    let controllers: Vec<String> = match version {
        Version::V2 => Vec::new(),
        Version::V1 => options.skip(1).map(String::from).collect(),
    };
    let path = own_path(membership, version, &controllers)?;
    // Where only a part of the hierarchy is mounted (a container that shares the host's cgroup
    // namespace), the path counts from further up than the mount does.
    let (path, root) = (Path::new(path.trim_start_matches('/')), unescape(root));
    let inside = path.strip_prefix(root.trim_start_matches('/')).unwrap_or(path);
    let own = if inside.components().any(|c| c == std::path::Component::ParentDir) {
        top.clone()
    } else {
        top.join(inside)
    };
    Some(Hierarchy { version, controllers, top, own, local_events })
}

/// The path behind `0::` (v2), or behind a list with one of these controllers (v1).
fn own_path<'a>(membership: &'a str, version: Version, controllers: &[String]) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let ours = match version {
            Version::V2 => id == "0" && names.is_empty(),
            Version::V1 => names.split(',').any(|name| controllers.iter().any(|c| c == name)),
        };
        ours.then_some(path)
    })
}

/// Space, tab, newline and backslash are written as `\040` and so on.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_told_apart() {
        let mounts = "\
24 23 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
26 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 24 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let membership = "4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/c\n";
        let found = parse(mounts, membership);
        let own: Vec<_> = found.iter().map(|h| h.own.to_str().unwrap()).collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/memory/a/b",
                "/sys/fs/cgroup/cpu,cpuacct/",
                "/sys/fs/cgroup/unified/c",
                "/sys/fs/cgroup/systemd/x",
            ]
        );
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[2].version, Version::V2);
    }

    #[test]
    fn events_of_those_below_are_counted_unless_the_mount_says_otherwise() {
        for (options, local) in [
            ("rw", false),
            ("rw,nsdelegate,memory_localevents", true),
            ("rw,memory_recursiveprot", false),
        ] {
            let mounts = format!("30 24 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup {options}");
            assert_eq!(parse(&mounts, "0::/\n")[0].local_events, local, "{options}");
        }
    }

    #[test]
    fn a_container_that_mounts_its_part_only() {
        let mounts = "30 24 0:24 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw";
        let found = parse(mounts, "0::/docker/abc/leaf\n");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/leaf"));
    }

    #[test]
    fn a_sibling_whose_name_begins_alike_is_not_inside() {
        let mounts = "30 24 0:24 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup rw";
        let found = parse(mounts, "0::/docker/abc/x\n");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/docker/abc/x"));
    }

    #[test]
    fn the_own_cgroup_is_never_outside_of_the_hierarchy() {
        for (root, path) in [("", "/etc"), ("/a", "//etc"), ("//", "/etc")] {
            let mounts = format!("30 24 0:24 {root} /sys/fs/cgroup rw - cgroup2 cgroup rw");
            let found = parse(&mounts, &format!("0::{path}\n"));
            assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/etc"), "{root} {path}");
        }
    }

    #[test]
    fn a_process_outside_of_its_namespaces_root_stands_at_the_top() {
        let mounts = "30 24 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup rw";
        assert_eq!(parse(mounts, "0::/../other\n")[0].own, Path::new("/sys/fs/cgroup"));
    }
}
