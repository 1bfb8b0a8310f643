package main

import (
	"reflect"
	"testing"
	"time"
)

func all(settings Settings) []Event {
	var events []Event
	generator := NewGenerator(settings)
	for event, ok := generator.Next(); ok; event, ok = generator.Next() {
		events = append(events, event)
	}
	return events
}

func TestEvents(t *testing.T) {
	settings := Settings{time.Unix(1_700_000_000, 0), 5, 10 * time.Minute, 7, 0.25, 10 * time.Second}
	events := all(settings)
	if !reflect.DeepEqual(events, all(settings)) {
		t.Fatal("the same seed made other events")
	}
	seen := map[string]int64{}
	count := 0
	for i, event := range events {
		if i > 0 && event.After < events[i-1].After {
			t.Fatalf("event %d goes back in time", i)
		}
		switch value := event.Value.(type) {
		case Impression:
			seen[value.ImprID] = value.TS
		case Click:
			count++
			shown, known := seen[value.ImprID]
			if delay := value.TS - shown; !known || delay < 0 || delay > 10_000 {
				t.Fatalf("click %s: %d ms after its impression", value.ClickID, delay)
			}
		}
	}
	if len(seen) != 5*600 || count < 650 || count > 850 {
		t.Fatalf("%d impressions, %d clicks", len(seen), count)
	}
}
