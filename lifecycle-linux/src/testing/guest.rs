//! A small machine for tests: Debian's kernel for clouds, and a RAM disk with busybox that is put together here.
//!
//! Words on the kernel's command line say what it does: `dhcp` has the first network card asked for an address, and each
//! `ip=<address>/<length>` gives one to the first card that has none. It says when a card gets or loses carrier, and sends
//! back what it is sent at port 7. It says `guest-ready` when it listens, has a shell on its console and QEMU's agent for
//! commands, and ends when its power button is pressed. Its command `media` mounts at `/media` a disc or the disk that is
//! plugged in.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon::{answer, busybox};

/// Where the kernel's package was unpacked, unless the environment names another directory.
const KERNEL: &str = "/var/cache/lifecycle-tests/kernel";
/// Environment variable that names the directory.
const VARIABLE: &str = "LIFECYCLE_TEST_KERNEL";
/// Words for its command line with which it starts sooner, where all is emulated.
pub const SOON: &str = "quiet tsc=reliable no_timer_check nokaslr mitigations=off rodata=off cryptomgr.notests";
/// QEMU's agent, which is put in with the libraries that it needs.
const AGENT: &str = "/usr/sbin/qemu-ga";
/// Modules in the order in which they are loaded.
const MODULES: [&str; 12] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
    "virtio_console",
    "button",
    "evdev",
];
/// Modules for media, which most machines have none of.
const MEDIA_MODULES: [&str; 11] = [
    "nls_cp437",
    "nls_ascii",
    "fat",
    "vfat",
    "scsi_common",
    "scsi_mod",
    "libata",
    "ata_piix",
    "cdrom",
    "sr_mod",
    "isofs",
];
const MEDIA: &str = r#"#!/bin/busybox sh
for module in $(cat /modules/media); do insmod /modules/$module.ko; done
mkdir -p /media
for try in $(seq 100); do
    mount -t iso9660 -o ro /dev/sr0 /media && exit
    mount -t vfat -o ro /dev/vda /media && exit
    sleep 0.2
done 2>/dev/null
exit 1
"#;
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
echo 1 >/proc/sys/kernel/printk
ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in
        ip=*) addresses="$addresses ${word#ip=}" ;;
        dhcp) dhcp=1 ;;
    esac
done
if [ "$dhcp" ]; then
    echo '#!/bin/sh' >/dhcp
    echo '[ "$1" = bound ] && ip addr add $ip/$mask dev $interface && echo dhcp-bound $ip $hostname >/dev/console' >>/dhcp
    chmod +x /dhcp
    read index </sys/class/net/eth0/ifindex
    eval "ready_$index=1"
    ip link set eth0 up
    udhcpc -i eth0 -t 100 -T 1 -s /dhcp >/dev/null 2>&1 &
fi
# Cards may come and go. Looking at those that are known starts no process.
(while :; do
    for path in /sys/class/net/eth*; do
        card=${path##*/}
        read index <$path/ifindex || continue
        eval "ready=\$ready_$index was=\$carrier_$index"
        if [ -z "$ready" ]; then
            for address in $addresses; do
                ip -4 addr | grep -q "inet $address " && continue
                ip link set $card up && ip addr add $address dev $card && eval "ready_$index=1" && break
            done
        elif read now <$path/carrier && [ "$now" != "$was" ]; then
            eval "carrier_$index=$now"
            echo $card carrier $now
        fi
    done
    sleep 0.2
done) 2>/dev/null &
for button in /sys/class/input/event*; do
    grep -q Power $button/device/name || continue
    (dd if=/dev/input/${button##*/} bs=24 count=1 of=/dev/null 2>/dev/null && poweroff -f) &
done
nc -ll -p 7 -e cat &
for port in /sys/class/virtio-ports/*; do
    read name <$port/name || continue
    [ "$name" = org.qemu.guest_agent.0 ] && /usr/sbin/qemu-ga -p /dev/${port##*/} -t /run >/dev/null 2>&1 &
done
echo guest-ready
while :; do setsid cttyhack sh; done
"#;

fn package() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(KERNEL), PathBuf::from)
}

fn kernel() -> Option<PathBuf> {
    let entries = fs::read_dir(package().join("boot")).ok()?;
    entries.filter_map(Result::ok).map(|it| it.path()).find(|path| path.to_string_lossy().contains("vmlinuz-"))
}

/// Why no such machine can be put together here, if so.
pub fn missing() -> Option<String> {
    if kernel().is_none() {
        let text =
            "no kernel for virtual machines: unpack Debian's package linux-image-cloud-amd64 (what it depends on)";
        return Some(format!("{text} into {} or what {VARIABLE} names", package().display()));
    }
    let parts = [
        (busybox().is_some(), "busybox", "busybox-static"),
        (Path::new(AGENT).is_file(), "qemu-ga", "qemu-guest-agent"),
    ];
    let (_, part, package) = parts.into_iter().find(|(is_there, ..)| !is_there)?;
    Some(format!("no {part} to make a RAM disk of (Debian's package is {package})"))
}

/// The agent and its libraries.
fn agent() -> Vec<PathBuf> {
    let said = answer(Command::new("ldd").arg(AGENT)).unwrap_or_else(|error| panic!("{AGENT}: {error}"));
    let libraries = said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    libraries.chain([PathBuf::from(AGENT)]).collect()
}

/// Puts `kernel` and `initrd` into a directory.
///
/// # Panics
/// When something that it is made of is missing or cannot be written.
pub fn make(directory: &Path) {
    let must = |error: std::io::Error| -> ! { panic!("the guest cannot be made: {error}") };
    let kernel = kernel().unwrap_or_else(|| panic!("{}", missing().unwrap_or_default()));
    fs::create_dir_all(directory).unwrap_or_else(|error| must(error));
    fs::copy(&kernel, directory.join("kernel")).unwrap_or_else(|error| must(error));
    let mut disk = Archive::default();
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| must(error));
    disk.add("init", 0o100_755, INIT.as_bytes());
    disk.add("bin/busybox", 0o100_755, &read(&busybox().unwrap_or_default()));
    for path in agent() {
        disk.add(path.to_string_lossy().trim_start_matches('/'), 0o100_755, &read(&path));
    }
    disk.add("bin/media", 0o100_755, MEDIA.as_bytes());
    disk.add("modules/order", 0o100_644, MODULES.join("\n").as_bytes());
    disk.add("modules/media", 0o100_644, MEDIA_MODULES.join("\n").as_bytes());
    for module in MODULES.iter().chain(&MEDIA_MODULES) {
        let found = find(&package().join("lib/modules"), &format!("{module}.ko"));
        let path = found.unwrap_or_else(|| panic!("the kernel's package has no module {module}"));
        disk.add(&format!("modules/{module}.ko"), 0o100_644, &read(&path));
    }
    fs::write(directory.join("initrd"), disk.finished()).unwrap_or_else(|error| must(error));
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut folders = Vec::new();
    for path in entries.filter_map(Result::ok).map(|it| it.path()) {
        if path.file_name().is_some_and(|it| it == name) {
            return Some(path);
        }
        if path.is_dir() && !path.is_symlink() {
            folders.push(path);
        }
    }
    folders.iter().find_map(|folder| find(folder, name))
}

/// A cpio archive in the form that kernels read.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    count: usize,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a file, in folders that are there from then on.
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let ends = name.match_indices('/').map(|(at, _)| &name[..at]);
        for folder in ends {
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, 0o040_755, &[]);
            }
        }
        self.entry(name, mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        let fields = [self.count, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            // Writing to memory does not fail.
            let _ = write!(self.bytes, "{field:08X}");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finished(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
