//! Checks of the repository that no other tool makes: `cargo xtask tidy`.
//!
//! Every rule is a pure function from texts to findings, so that its tests are a few lines of fixture; this file
//! alone reads the disk and runs `git` and `cargo metadata`. A finding is one line, `file:line: [rule] text`; the
//! last line says how many there are. Exit codes: 0 clean, 1 findings, 2 usage, 3 the environment can not.
//!
//! `cargo xtask ratchet` lowers the entries of `xtask/ratchet.txt` to what they have shrunk to. It never raises one
//! and never adds one.

mod finding;
mod ratchet;
mod repository;
mod rules;
mod source;

use std::process::ExitCode;

use finding::Finding;
use ratchet::Ratchet;
use repository::Repository;

const USAGE: &str = "usage: cargo xtask tidy | cargo xtask ratchet";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy,
        ["ratchet"] => lower_ratchet,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match Repository::open().and_then(|repository| command(&repository)) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(3)
        }
    }
}

fn tidy(repository: &Repository) -> Result<ExitCode, String> {
    let findings = all_findings(repository)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: ok, {} files", repository.files.len());
        Ok(ExitCode::SUCCESS)
    } else {
        println!("tidy: {} findings", findings.len());
        Ok(ExitCode::from(1))
    }
}

fn all_findings(repository: &Repository) -> Result<Vec<Finding>, String> {
    let lock = repository.text("Cargo.lock").ok_or("there is no Cargo.lock")?;
    let foreign = rules::lock::check("Cargo.lock", lock);
    if !foreign.is_empty() {
        // Cargo would have to reach these sources before it could tell us anything.
        return Ok(foreign);
    }
    let metadata = repository.metadata()?;
    let ratchet = Ratchet::parse(repository.text(ratchet::PATH).unwrap_or_default())?;
    let sources = repository.sources();

    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(rules::layers::check(source));
        findings.extend(rules::statics::check(source));
        findings.extend(rules::select::check(source));
        findings.extend(rules::essay::check(source));
    }
    findings.extend(ratchet.check(&rules::size::measure(&sources)));
    for (path, text) in repository.texts() {
        findings.extend(rules::words::check(path, text));
        // The fuzz targets are no member of the workspace.
        if path.ends_with("/Cargo.toml") && !path.starts_with("fuzz/") {
            findings.extend(rules::manifest::check(path, text));
        }
        if path.ends_with("/Cargo.lock") {
            findings.extend(rules::lock::check(path, text));
        }
    }
    if let (Some(readme), Some(example)) =
        (repository.text("README.md"), repository.text(rules::readme::EXAMPLE))
    {
        findings.extend(rules::readme::check(readme, example));
    }
    if let (Some(manifest), Some(reasons)) =
        (repository.text("Cargo.toml"), repository.text("CONTRIBUTING.md"))
    {
        findings.extend(rules::reasons::check(manifest, reasons));
    }
    findings.extend(rules::licence::check(&metadata, lock));
    findings.extend(rules::crates::check(&metadata));
    findings.sort();
    Ok(findings)
}

fn lower_ratchet(repository: &Repository) -> Result<ExitCode, String> {
    let mut ratchet = Ratchet::parse(repository.text(ratchet::PATH).unwrap_or_default())?;
    ratchet.lower(&rules::size::measure(&repository.sources()));
    repository.write(ratchet::PATH, &ratchet.to_string())?;
    println!("ratchet: {} entries", ratchet.len());
    Ok(ExitCode::SUCCESS)
}
