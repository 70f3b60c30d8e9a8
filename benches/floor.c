/* The floor of a converged plan of plans/order_tracking.yaml: a program that makes only the unavoidable calls,
 * one after another, and compares only what it has to. It is written for this plan file only, has no messages, and exits
 * with 1 if anything differs. scripts/bench compiles it (cc -O2 floor.c -lpq).
 *
 *   floor URL ETL KEY_SOURCE      the password of the warehouse is in PGPASSWORD, that of the mails in ALERT_SMTP_PASSWORD
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <postgresql/libpq-fe.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define TABLE(name, period) "to_regclass('settlement_ods.hist_" name "_" period "')"
#define SERIES(name) TABLE(name, "2025_h2") " IS NOT NULL AND " TABLE(name, "2026_h1") " IS NOT NULL AND " TABLE(name, "2026_h2")
#define TABLES                                                                                                          \
    "SELECT " SERIES("uni_tracking_info") " IS NOT NULL AND " SERIES("ecs_order_info") " IS NOT NULL AND "              \
    SERIES("uni_tracking_spath") " IS NOT NULL AND to_regclass('settlement_ods.order_tracking_exceptions') IS NOT NULL"

static void need(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "floor: %s differs\n", what);
        exit(1);
    }
}

static size_t load(const char *path, char *bytes, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    need(fd >= 0, path);
    ssize_t length = read(fd, bytes, room - 1);
    need(length >= 0, path);
    close(fd);
    bytes[length] = 0;
    return (size_t)length;
}

/* Every entry below the directory belongs to this user. */
static void owned(int at, const char *name, uid_t uid) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    need(fd >= 0, name);
    DIR *listing = fdopendir(fd);
    struct dirent *entry;
    while ((entry = readdir(listing))) {
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        need(!fstatat(fd, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) && found.st_uid == uid, entry->d_name);
        if (S_ISDIR(found.st_mode)) owned(fd, entry->d_name, uid);
    }
    closedir(listing);
}

int main(int argc, char **argv) {
    static char path[4096], one[1 << 20], other[1 << 20];
    struct stat found;
    need(argc == 4, "the command line");
    const char *etl = argv[2], *key = argv[3];
    need(!chdir(etl) && !chdir("s3-redshift-backup-tool"), etl);

    /* repository: the branch, its commit, and that of the remote */
    load(".git/HEAD", one, sizeof one);
    need(!strcmp(one, "ref: refs/heads/jasleen_qa\n"), "HEAD");
    load(".git/refs/heads/jasleen_qa", one, sizeof one);
    int pipes[2];
    pid_t git;
    posix_spawn_file_actions_t actions;
    char *ask[] = {"git", "ls-remote", "--heads", "origin", "refs/heads/jasleen_qa", NULL};
    need(!pipe2(pipes, O_CLOEXEC) && !posix_spawn_file_actions_init(&actions), "the pipe");
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    need(!posix_spawnp(&git, "git", &actions, NULL, ask, environ), "git");
    close(pipes[1]);
    ssize_t got, length = 0;
    while ((got = read(pipes[0], other + length, sizeof other - length)) > 0) length += got;
    int status;
    need(waitpid(git, &status, 0) == git && !status && !strncmp(one, other, 40), "the remote");

    /* logs-directory */
    need(!lstat("airflow_poc/logs", &found) && found.st_uid == 50000 && found.st_gid == 50000, "logs");
    owned(AT_FDCWD, "airflow_poc/logs", 50000);

    /* bastion-key */
    snprintf(path, sizeof path, "%s/ssh/jasleentung.pem", etl);
    need(!lstat(path, &found) && (found.st_mode & 07777) == 0400, path);
    length = load(path, one, sizeof one);
    need((size_t)length == load(key, other, sizeof other) && !memcmp(one, other, length), path);

    /* smtp-password */
    load("airflow_poc/docker-compose.yml", one, sizeof one);
    const char *password = getenv("ALERT_SMTP_PASSWORD");
    need(password && strstr(one, password), "docker-compose.yml");

    /* history-tables, exceptions-table */
    PGconn *connection = PQconnectdb(argv[1]);
    need(PQstatus(connection) == CONNECTION_OK, PQerrorMessage(connection));
    PGresult *result = PQexec(connection, TABLES);
    need(PQntuples(result) == 1 && !strcmp(PQgetvalue(result, 0, 0), "t"), "the tables");
    PQfinish(connection);
    return 0;
}
