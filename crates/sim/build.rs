//! Lists the scenario files, so that a new file needs no line of code.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=scenarios");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let out = env::var("OUT_DIR").expect("cargo sets it for build scripts");
    let folder = Path::new(&root).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of scenarios is part of the crate")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let rows: Vec<String> = files
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            format!("({name:?}, include_str!({:?}))", path.display().to_string())
        })
        .collect();
    let list = format!("[{}]", rows.join(",\n"));
    fs::write(Path::new(&out).join("scenarios.rs"), list).expect("cargo made this folder for us");
}
