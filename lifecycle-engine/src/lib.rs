//! The engine of Lifecycle: a synchronous decision step and a tokio driver around it.
