//! Listeners: sockets that accept.

pub mod config;

use std::io;
use std::net::{SocketAddr, TcpListener};

/// How many connections the kernel holds until they are accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds a listening socket. `SO_REUSEADDR`, so that a restart does not wait for old connections to be forgotten.
///
/// # Errors
/// One line that says which address, what is wrong, and what to do.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let explain = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there; stop it, or choose another address",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
            _ => "the system refused",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {help} ({error})"))
    };
    let domain = socket2::Domain::for_address(address);
    let socket =
        socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP)).map_err(explain)?;
    socket.set_reuse_address(true).map_err(explain)?;
    socket.bind(&address.into()).map_err(explain)?;
    socket.listen(BACKLOG).map_err(explain)?;
    socket.set_nonblocking(true).map_err(explain)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    }
}
