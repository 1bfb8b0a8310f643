// Command producer makes up impressions and clicks and writes them, at the pace of the clock, as JSON: to Kafka
// topics with -kafka, else into the streams of a Millpond server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// tick is how long events that are due wait to be written together.
const tick = 50 * time.Millisecond

func main() {
	settings := Settings{Start: time.Now()}
	flag.Float64Var(&settings.Rate, "rate", 5, "impressions a second")
	flag.DurationVar(&settings.Duration, "duration", 0, "how long, such as 2m; clicks may come after it (default: until Ctrl-C)")
	flag.Int64Var(&settings.Seed, "seed", 1, "the same seed makes the same events")
	flag.Float64Var(&settings.Clicks, "clicks", 0.25, "share of the impressions that are clicked")
	flag.DurationVar(&settings.MaxDelay, "max-delay", 10*time.Second, "from an impression to its click, at most")
	kafka := flag.String("kafka", "", "brokers, as host:port,host:port")
	url := flag.String("url", or(os.Getenv("MILLPOND_URL"), "http://127.0.0.1:7878"), "the server, where there is no -kafka")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, settings, *kafka, *url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, settings Settings, kafka, url string) error {
	if settings.Rate <= 0 {
		return errors.New("-rate must be above 0")
	}
	var sink Sink = &Server{url, os.Getenv("MILLPOND_API_KEY")}
	if kafka != "" {
		connected, err := NewKafka(kafka)
		if err != nil {
			return err
		}
		sink = connected
	}
	defer sink.Close()
	count, err := write(ctx, settings, sink)
	fmt.Printf("%d events written\n", count)
	return err
}

// write passes events on when they are due. Ctrl-C ends it; what was due before is written.
func write(ctx context.Context, settings Settings, sink Sink) (int, error) {
	generator := NewGenerator(settings)
	var due []Event
	count := 0
	flush := func() error {
		if len(due) == 0 {
			return nil
		}
		// Not under ctx: an interrupt must not leave half of them out.
		err := sink.Write(context.Background(), due)
		count += len(due)
		due = due[:0]
		return err
	}
	for event, ok := generator.Next(); ok; event, ok = generator.Next() {
		if ahead := time.Until(settings.Start.Add(event.After)); ahead > 0 {
			if err := flush(); err != nil {
				return count, err
			}
			if ahead < tick {
				ahead = tick
			}
			select {
			case <-ctx.Done():
				return count, nil
			case <-time.After(ahead):
			}
		}
		due = append(due, event)
	}
	err := flush()
	return count, err
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
