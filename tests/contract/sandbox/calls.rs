//! The system calls that affect a file, a socket or a process, and the errors that the kernel may return for each.

use nix::errno::Errno;
use nix::libc::{self, c_long};

/// What a call does, as far as its errors depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Open,
    /// Inspects a name.
    ObserveContext,
    /// Changes a name, or what `stat` shows.
    Change,
    Read,
    Write,
    Sync,
    Lock,
    /// Creates a descriptor that is not a file.
    Descriptor,
    Connect,
    /// Sends or receives.
    Message,
    /// Waits for a descriptor or a process.
    Wait,
    Execute,
    /// Affects a process, a socket or a descriptor, and has none of the errors.
    Other,
}

/// One entry of the table.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub class: Class,
    /// The argument with the path, and the one with the flags of an opening call.
    pub path: Option<usize>,
}

macro_rules! position {
    (-) => {
        None
    };
    ($at:literal) => {
        Some($at)
    };
}

macro_rules! calls {
    ($($class:ident $path:tt: $($name:ident)+;)+) => {
        /// Returns the call with a number. `None` if it affects only its own process.
        pub fn call(number: c_long) -> Option<Call> {
            match number {
                $($(libc::$name => Some(Call {
                    name: stringify!($name).strip_prefix("SYS_").unwrap_or_default(),
                    class: Class::$class,
                    path: position!($path),
                }),)+)+
                _ => None,
            }
        }

        /// Returns the numbers of all calls in the table.
        pub const NUMBERS: &[c_long] = &[$($(libc::$name,)+)+];
    };
}

calls! {
    Open 0: SYS_open SYS_creat;
    Open 1: SYS_openat SYS_openat2;
    ObserveContext 0: SYS_stat SYS_lstat SYS_access SYS_readlink SYS_chdir SYS_statfs SYS_getxattr SYS_lgetxattr;
    ObserveContext 1: SYS_newfstatat SYS_statx SYS_faccessat SYS_faccessat2 SYS_readlinkat;
    Change 0: SYS_rename SYS_link SYS_unlink SYS_mkdir SYS_rmdir SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_truncate;
    Change 0: SYS_utimes SYS_mknod;
    Change 1: SYS_renameat SYS_renameat2 SYS_linkat SYS_unlinkat SYS_mkdirat SYS_fchmodat SYS_fchmodat2 SYS_fchownat;
    Change 1: SYS_utimensat SYS_symlinkat;
    Change -: SYS_fchmod SYS_fchown SYS_ftruncate;
    Read -: SYS_read SYS_pread64 SYS_readv SYS_getdents64 SYS_fstat SYS_lseek SYS_fstatfs;
    Write -: SYS_write SYS_pwrite64 SYS_writev SYS_fallocate SYS_copy_file_range SYS_sendfile;
    Sync -: SYS_fsync SYS_fdatasync SYS_syncfs SYS_sync_file_range;
    Lock -: SYS_flock;
    Descriptor -: SYS_pipe SYS_pipe2 SYS_dup SYS_eventfd2 SYS_epoll_create1 SYS_socket SYS_socketpair SYS_accept4;
    Descriptor -: SYS_pidfd_open SYS_inotify_init1 SYS_memfd_create;
    Connect -: SYS_connect;
    Message -: SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg;
    Wait -: SYS_poll SYS_ppoll SYS_epoll_wait SYS_epoll_pwait SYS_wait4 SYS_waitid;
    Execute 0: SYS_execve;
    Other -: SYS_clone SYS_clone3 SYS_fork SYS_vfork SYS_kill SYS_exit_group SYS_setsid SYS_setgroups SYS_setresuid;
    Other -: SYS_setresgid SYS_setuid SYS_setgid SYS_dup2 SYS_dup3 SYS_bind SYS_listen SYS_shutdown SYS_setsockopt;
    Other -: SYS_getsockopt SYS_getsockname SYS_getpeername SYS_close SYS_fcntl SYS_ioctl SYS_epoll_ctl SYS_umask;
}

/// Flags of calls that may change the file that they open.
const WRITES: libc::c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC;

impl Call {
    /// Returns whether a later run or another process can notice that the call was made, or it waits for another process.
    /// A process that is killed at any other call leaves what it leaves if it is killed at its next noticeable call.
    /// `arguments` and `open` are as in `can_give`.
    pub fn is_noticeable(self, arguments: [u64; 4], open: impl Fn() -> String) -> bool {
        let is_file = || open().starts_with('/');
        match self.class {
            Class::Open => self.opens_with(arguments, WRITES),
            // What is written stays when the process is killed, also if it was not synced.
            Class::ObserveContext | Class::Sync | Class::Descriptor => false,
            Class::Read => matches!(self.name, "read" | "readv") && !is_file(),
            Class::Other => match self.name {
                "close" => !is_file(),
                "dup2" | "dup3" | "setsockopt" | "getsockopt" | "getsockname" | "getpeername" | "fcntl" | "ioctl"
                | "epoll_ctl" | "umask" => false,
                _ => true,
            },
            _ => true,
        }
    }

    /// Returns whether it is an opening call with one of the flags.
    fn opens_with(self, arguments: [u64; 4], one_of: libc::c_int) -> bool {
        let flags = self.path.and_then(|path| arguments.get(path + 1)).copied().unwrap_or(0);
        self.class == Class::Open && flags & u64::try_from(one_of).unwrap() != 0
    }

    /// Returns whether the call can fail like this with any arguments.
    pub fn could_give(self, errno: Errno) -> bool {
        self.can_give(errno, [u64::MAX; 4], || "/file".to_owned())
    }

    /// Returns whether the call can fail like this. `arguments` are those of the call. `open` returns what its first
    /// argument refers to, as in /proc: a path, with a trailing slash for a directory, `socket:[1]`,
    /// `anon_inode:[eventfd]`.
    ///
    /// The errors are those of the manual pages (section 2), and EIO for everything that reaches a disk.
    pub fn can_give(self, errno: Errno, arguments: [u64; 4], open: impl Fn() -> String) -> bool {
        let is_file = || open().starts_with('/');
        let creates = self.opens_with(arguments, libc::O_CREAT);
        let writes = self.opens_with(arguments, WRITES);
        match (errno, self.class) {
            (Errno::ENOSPC, Class::Open) => creates,
            (Errno::ENOSPC, Class::Change) => !matches!(self.name, "unlink" | "unlinkat" | "rmdir"),
            (Errno::EROFS, Class::Open) => writes,
            (Errno::ENOSPC | Errno::EIO, Class::Write | Class::Sync) | (Errno::EIO, Class::Read) => is_file(),
            (Errno::EIO, Class::Open | Class::ObserveContext | Class::Change)
            | (Errno::EACCES, Class::Open | Class::ObserveContext | Class::Change | Class::Execute)
            | (Errno::EROFS, Class::Change)
            | (Errno::EMFILE, Class::Open | Class::Descriptor) => true,
            (Errno::EINTR, Class::Open | Class::Lock | Class::Connect | Class::Message | Class::Wait) => true,
            // A non-blocking counter is incremented or full (eventfd(2)).
            (Errno::EINTR, Class::Write) => open() != "anon_inode:[eventfd]",
            (Errno::EINTR, Class::Read) => matches!(self.name, "read" | "pread64" | "readv"),
            (Errno::EINTR, Class::Other) => self.name == "close" && is_file(),
            // close(2) returns the error of the file's `flush` (filp_close in Linux's fs/open.c), and directories have
            // none.
            (Errno::EIO, Class::Other) => self.name == "close" && is_file() && !open().ends_with('/'),
            _ => false,
        }
    }
}
