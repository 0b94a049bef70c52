//! The suite as a house: its files stand side by side, each of them is run, and what two of them
//! need is in the testbed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testbed::programs::workspace;

/// What stands beside the suite: other programs, and the library of all.
const OTHERS: [&str; 4] = ["bench", "demo", "runtimes", "testbed"];

/// The table of differences, whose files are one.
const TABLE: &str = "differences";

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap()
}

/// Files and folders in `folder`, if there is such a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The files of the suite in `folder`, and those of its rooms.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if path.is_dir() && !OTHERS.contains(&stem(&path)) {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|own| own == "rs") {
            found.push(path);
        }
    }
    found
}

fn suite() -> Vec<PathBuf> {
    let found = files(&workspace().join("tests"));
    assert!(found.len() > 50, "where is the suite? {found:?}");
    found
}

/// What a line says outside of comments and texts.
fn code(line: &str) -> String {
    let code = line.split("//").next().unwrap_or_default();
    code.split('"').step_by(2).collect()
}

#[test]
fn a_file_imports_no_other_but_the_table_of_differences() {
    for file in suite() {
        let is_of_the_table = file.parent().is_some_and(|room| stem(room) == TABLE);
        for line in fs::read_to_string(&file).unwrap().lines().map(code) {
            let own = line.split("crate::").skip(1).all(|path| path.starts_with("differences::"));
            let is_alone = is_of_the_table || !line.contains("super::");
            assert!(
                own && is_alone,
                "{}: {line:?}: what two files of the suite need belongs into tests/testbed",
                file.display()
            );
        }
    }
}

#[test]
fn no_file_of_a_room_is_forgotten() {
    for file in suite() {
        let room = file.parent().unwrap();
        let is_root = stem(room) == "tests";
        if is_root && stem(&file) == "suite" {
            continue;
        }
        let above = if is_root { room.join("suite.rs") } else { room.with_extension("rs") };
        let declared = fs::read_to_string(&above).unwrap();
        let line = format!("mod {};", stem(&file));
        assert!(declared.lines().any(|own| own == line), "{} is never run", file.display());
    }
}

#[test]
fn a_file_says_first_what_it_proves() {
    for file in suite() {
        let text = fs::read_to_string(&file).unwrap();
        let header: String = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        assert!(header.contains(['.', ':']) && header.len() > 30, "{}: {header}", file.display());
    }
}
