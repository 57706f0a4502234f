//! nginx, as a process: a service of HTTP/1.1.

use super::{eventually, free_address, tools};
use std::{
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
};

/// What it answers: files, an upload's length, a body's own compression, and what is cut short.
const CONFIG: &str = r#"
daemon off; worker_processes 1; master_process off; error_log stderr crit;
pid DIR/pid;
events { worker_connections 512; }
http {
  access_log off; client_max_body_size 4m; default_type text/plain;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
  keepalive_requests 50; absolute_redirect off;
  gzip on; gzip_min_length 1; gzip_types text/plain;
  server {
    listen ADDRESS; root DIR/files;
    location = /moved { return 302 /small; }
    location = /gone { return 404 "no such thing\n"; }
    location = /method { return 200 "$request_method $http_host $http_x_forwarded_for\n"; }
    location = /early { return 200 "took $content_length\n"; }
    location = /upload { proxy_pass http://ADDRESS/early; }
  }
}
"#;

/// A running nginx, until dropped.
pub struct Nginx {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Nginx {
    /// Starts one. `None` where there is none.
    pub fn start() -> Option<Self> {
        let mut command = tools::program("nginx")?;
        let directory = tempfile::tempdir().expect("a directory");
        let files = directory.path().join("files");
        std::fs::create_dir(&files).expect("a directory");
        let address = free_address();
        let path = directory.path().display().to_string();
        let config = CONFIG.replace("DIR", &path).replace("ADDRESS", &address.to_string());
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a config");
        // As root it would give its files to another user.
        command.arg("-c").arg(&file).arg("-p").arg(directory.path());
        command.args(["-g", "user root;"]).args(["-e", "stderr"]);
        let process = command.stdout(Stdio::null()).spawn().expect("nginx runs");
        let this = Self { process, address, directory };
        eventually("nginx", || TcpStream::connect(address).ok());
        this.put("small", b"a small file, and no more\n");
        Some(this)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it serve this file.
    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.directory.path().join("files").join(name), content).expect("a file");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
