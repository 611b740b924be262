//! The image of holders: one program that does nothing but wait.
//!
//! It is put together here, out of a few bytes of machine code, so that it needs no compiler, no registry and no download,
//! and is the same each time. As the first process of its pid namespace it is deaf to every signal but those that nobody
//! can refuse.

use std::io;

use bollard::query_parameters::ImportImageOptions;
use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_crash::crash_point;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::client::{Client, optional};
use crate::failure::Failure;

/// Path of the program in the image.
pub(crate) const PROGRAM: &str = "/hold";
/// Name of the image; its tag tells its content.
const NAME: &str = "lifecycle-holder";
/// Where the program is loaded to.
const ADDRESS: u64 = 0x40_0000;

/// A processor that the program is known for.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// What images call it.
    name: &'static str,
    /// What ELF calls it.
    elf: u16,
    /// Waits for a signal, over and over.
    code: &'static [u8],
}

/// `pause()` in a loop.
const X86_64: Machine = Machine {
    name: "amd64",
    elf: 62,
    code: &[
        0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, 34 (pause)
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the first
    ],
};

/// `ppoll()` of nothing without an end in a loop: this one has no `pause`.
const AARCH64: Machine = Machine {
    name: "arm64",
    elf: 183,
    code: &[
        0x00, 0x00, 0x80, 0xd2, // mov x0, 0
        0x01, 0x00, 0x80, 0xd2, // mov x1, 0
        0x02, 0x00, 0x80, 0xd2, // mov x2, 0
        0x03, 0x00, 0x80, 0xd2, // mov x3, 0
        0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll)
        0x01, 0x00, 0x00, 0xd4, // svc 0
        0xfa, 0xff, 0xff, 0x17, // b to the first
    ],
};

/// The processor of this machine, where containers run as well.
fn machine() -> Result<Machine, Failure> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(X86_64),
        "aarch64" => Ok(AARCH64),
        other => {
            let text = format!("containers hold their namespaces on x86_64 and aarch64 only; this is {other}");
            Err(Failure::new(ErrorKind::Unsupported, text))
        }
    }
}

/// A static program of the smallest kind: one header, one segment, the code.
fn program(machine: Machine) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + machine.code.len() as u64;
    let mut elf = Vec::new();
    // 64 bits, little endian, version 1, for any system.
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, machine.elf] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    // Where it begins to run, where the segments are told, no sections.
    for word in [ADDRESS + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // One segment, loaded whole, to be read and run.
    for word in [1_u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(machine.code);
    elf
}

fn archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8], u32)>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, path, content)?;
    }
    archive.into_inner()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The image, as an archive that daemons load, and its name.
fn image(machine: Machine) -> io::Result<(String, Vec<u8>)> {
    let layer = archive([(&PROGRAM[1..], &program(machine)[..], 0o755)])?;
    let config = json!({
        "architecture": machine.name,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": [PROGRAM], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "lifecycle" }],
    })
    .to_string();
    let id = digest(config.as_bytes());
    let (name, file) = (format!("{NAME}:{}", &id[..16]), format!("{id}.json"));
    let manifest = json!([{ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] }]).to_string();
    let files = [
        (file.as_str(), config.as_bytes(), 0o644),
        ("layer.tar", &layer, 0o644),
        ("manifest.json", manifest.as_bytes(), 0o644),
    ];
    Ok((name, archive(files)?))
}

fn built() -> Result<(String, Vec<u8>), Failure> {
    let failed = |error: io::Error| Failure::new(ErrorKind::Failed, format!("cannot make the holder's image: {error}"));
    image(machine()?).map_err(failed)
}

/// What the image is called, whether the daemon has it or not.
pub(crate) fn name() -> Result<String, Failure> {
    built().map(|(name, _)| name)
}

/// Sees to it that the daemon has the image.
pub(crate) async fn ensure(client: &Client) -> Result<(), Failure> {
    let (name, archive) = built()?;
    if optional(client.ask(async |docker| docker.inspect_image(&name).await).await)?.is_some() {
        return Ok(());
    }
    client
        .act(std::time::Duration::ZERO, async |docker| {
            let body = bollard::body_full(archive.into());
            let mut progress = docker.import_image(ImportImageOptions::default(), body, None);
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok(())
        })
        .await?;
    crash_point("container-holder-loaded");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_waits_until_it_is_killed() {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        use std::os::unix::process::ExitStatusExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hold");
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o755).open(&path).unwrap();
        file.write_all(&program(machine().unwrap())).unwrap();
        drop(file);
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn the_image_is_the_same_each_time() {
        for machine in [X86_64, AARCH64] {
            assert_eq!(image(machine).unwrap(), image(machine).unwrap());
        }
        assert_ne!(image(X86_64).unwrap().0, image(AARCH64).unwrap().0);
    }
}
