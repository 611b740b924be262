//! System calls that no safe wrapper covers: the only place of the workspace with `unsafe` code.
//!
//! Each file holds a few functions, and each function is safe to call: it checks what the kernel returns and hands out
//! owned values only.

pub(crate) mod interface;
pub(crate) mod passing;
pub(crate) mod sockopt;
pub(crate) mod user_namespace;
