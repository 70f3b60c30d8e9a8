/* Runs a command and tells what it took, all of its processes together. scripts/bench compiles it (cc -O2 measure.c).
 *
 *   measure COMMAND [ARGUMENT...]          microseconds of time, microseconds of processors, KiB of its largest process
 *   measure --pss COMMAND [ARGUMENT...]    the most KiB of proportional memory (Pss, proc(5)) of all its processes at once
 *
 * The command's own output goes to /dev/null.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

/* The proportional memory of a process and of everything below it, in KiB. */
static long pss(long pid) {
    char path[64], line[256];
    long sum = 0, value;
    snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %ld", &value) == 1) sum += value;
    if (file) fclose(file);
    /* A child belongs to the thread that started it. */
    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    DIR *threads = opendir(path);
    struct dirent *thread;
    while (threads && (thread = readdir(threads))) {
        char children[400];
        snprintf(children, sizeof children, "%s/%s/children", path, thread->d_name);
        file = thread->d_name[0] == '.' ? NULL : fopen(children, "r");
        while (file && fscanf(file, "%ld", &value) == 1) sum += pss(value);
        if (file) fclose(file);
    }
    if (threads) closedir(threads);
    return sum;
}

int main(int argc, char **argv) {
    int watches = argc > 1 && !strcmp(argv[1], "--pss");
    char **command = argv + 1 + watches;
    if (argc < 2 + watches) return 2;
    long long start = now();
    pid_t child = fork();
    if (!child) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execvp(command[0], command);
        perror(command[0]);
        _exit(127);
    }
    struct rusage used;
    int status;
    long most = 0;
    for (;;) {
        siginfo_t ended = {0};
        if (!watches || waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid) break;
        long all = pss(child);
        if (all > most) most = all;
        usleep(300);
    }
    wait4(child, &status, 0, &used);
    if (watches) {
        printf("%ld\n", most);
    } else {
        long long cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
        printf("%lld %lld %ld\n", now() - start, cpu, used.ru_maxrss);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
