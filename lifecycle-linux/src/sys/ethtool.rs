//! What ethtool asks of an interface, one call per question.
//!
//! Features are bits in blocks of 32, whose names and number are the kernel's and the same for all interfaces.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd};

use lifecycle_core::name::IfName;
use nix::libc;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GET_STRINGS: u32 = 0x1b;
const GET_STRING_COUNTS: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// The set of texts that are the names of features.
const FEATURES: u32 = 4;
/// Bytes of a text, with the zeros that fill it up.
const TEXT: usize = 32;
/// Numbers that a block of features is read as: what can be changed, what is wanted, what is active, what never changes.
const READ_BLOCK: usize = 4;
const ACTIVE: usize = 2;

/// Asks an interface of the socket's namespace; the kernel answers in place.
///
/// # Safety
/// `words` has to be as long as the command says that its argument is.
unsafe fn ask(socket: impl AsFd, name: &IfName, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: all bits zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // An `IfName` has at most 15 bytes, so the closing zero stays.
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the descriptor is open, `request` names an interface and points at what the caller answers for, which
    // outlives the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The names of all features that the kernel knows, by their numbers.
pub(crate) fn feature_names(socket: impl AsFd, name: &IfName) -> io::Result<Vec<String>> {
    // Command, a gap, the sets in question as one number of 64 bits, and one count.
    let sets = 1u64 << FEATURES;
    let (low, high) = (sets as u32, (sets >> 32) as u32);
    let [first, second] = if cfg!(target_endian = "big") { [high, low] } else { [low, high] };
    let mut counts = [GET_STRING_COUNTS, 0, first, second, 0];
    // SAFETY: one set is asked for, so one count is written.
    unsafe { ask(&socket, name, &mut counts)? };
    let count = counts[4] as usize;
    // Command, set, how many, and the texts.
    let mut texts = vec![0; 3 + count * TEXT / size_of::<u32>()];
    (texts[0], texts[1]) = (GET_STRINGS, FEATURES);
    // SAFETY: the kernel has as many features as it said, for as long as it runs.
    unsafe { ask(&socket, name, &mut texts)? };
    let bytes: Vec<u8> = texts[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
    Ok(bytes.chunks(TEXT).map(text).collect())
}

/// Which features of an interface are active, in so many blocks.
pub(crate) fn active_features(socket: impl AsFd, name: &IfName, blocks: usize) -> io::Result<Vec<u32>> {
    // Command, how many blocks fit, and the blocks.
    let mut words = vec![0; 2 + blocks * READ_BLOCK];
    (words[0], words[1]) = (GET_FEATURES, u32::try_from(blocks).unwrap_or_default());
    // SAFETY: the kernel writes no more blocks than it was told that fit.
    unsafe { ask(socket, name, &mut words)? };
    Ok(words[2..].chunks(READ_BLOCK).map(|block| block[ACTIVE]).collect())
}

/// Has an interface turn features on or off: of each block those that are meant, and of these those that are to be on. What
/// it cannot change stays as it is.
pub(crate) fn set_features(socket: impl AsFd, name: &IfName, blocks: &[(u32, u32)]) -> io::Result<()> {
    let mut words = vec![SET_FEATURES, u32::try_from(blocks.len()).unwrap_or_default()];
    words.extend(blocks.iter().flat_map(|(meant, on)| [*meant, *on]));
    // SAFETY: the kernel reads as many blocks as it is told that there are.
    unsafe { ask(socket, name, &mut words) }
}
