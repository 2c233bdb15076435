# One measurement of R's rslurm: Rscript rslurm.R WORK ROWS NODES WORKERS MEMORY STYLE TOY RESULT
# The clock runs from the call, with packages loaded and parameters at hand, until the table is there.

library(rslurm)

given <- commandArgs(trailingOnly = TRUE)
work <- given[1]
rows <- as.integer(given[2])
nodes <- as.integer(given[3])
workers <- as.integer(given[4])
memory <- as.integer(given[5])
style <- given[6]
toy <- given[7] == "true"
result <- given[8]

status_bytes <- function(name) {
  line <- grep(paste0("^", name, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024
}

more <- list()
if (work == "add") {
  f <- function(a, b) a + b
  params <- data.frame(a = seq_len(rows) - 1, b = seq_len(rows) - 1 + rows)
  wanted <- params$a + params$b
} else if (work == "uneven") {
  f <- function(number, seconds) { Sys.sleep(seconds); number }
  params <- data.frame(number = seq_len(rows) - 1, seconds = scan("seconds", quiet = TRUE))
  wanted <- params$number
} else if (startsWith(work, "array")) {
  hold <- if (work == "array, held") 0.5 else 0
  f <- function(number, array, hold) { total <- sum(array); Sys.sleep(hold); total + number }
  params <- data.frame(number = seq_len(rows) - 1)
  # Computed, because R keeps a plain sequence as its two ends.
  more <- list(array = as.numeric(seq_len(if (toy) 125000 else 62500000)) * 1, hold = hold)
  wanted <- sum(more$array) + params$number
} else if (work == "waiting") {
  f <- function(marker, seconds) { file.create(marker); Sys.sleep(seconds); 0 }
  params <- data.frame(marker = rep(file.path(getwd(), "began"), rows),
                       seconds = if (toy) 4 else 75)
  wanted <- rep(0, rows)
} else {
  stop("rslurm has no work ", work)
}

# rbind of single values is their matrix; the values are what the table is made of.
cat("5", file = "/proc/self/clear_refs")
before <- status_bytes("VmRSS")
begin <- proc.time()[["elapsed"]]
job <- do.call(slurm_apply, c(
  list(f, params, jobname = "bench", nodes = nodes, cpus_per_node = workers,
       preschedule_cores = style != "unscheduled",
       slurm_options = list(mem = memory * workers)),
  more))
values <- get_slurm_out(job, outtype = "table", wait = TRUE)
table <- cbind(params, result = values[[1]])
seconds <- proc.time()[["elapsed"]] - begin
peak <- status_bytes("VmHWM") - before

stopifnot(nrow(table) == rows, all(table$result == wanted))
cat(sprintf('{"seconds": %.3f, "session_bytes": %.0f}', seconds, peak), file = result)
