import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.TimeZone;

/**
 * What a stock server takes for the local time.
 *
 * <p>Without arguments it prints the ID of this process's time zone, a TAB, and how many seconds
 * {@code LocalDateTime.now()} is ahead of UTC, or "fails". With instants (seconds since 1970) as
 * arguments it reads IDs, one a line, and prints for each what a server started with
 * {@code -Duser.timezone=ID} has: its ID, a TAB, and its offset at each instant.
 */
public final class LocalTime {

    private LocalTime() {}

    public static void main(String[] args) throws IOException {
        if (args.length == 0) {
            System.out.println(TimeZone.getDefault().getID() + "\t" + ahead());
            return;
        }
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String id = in.readLine(); id != null; id = in.readLine()) {
            System.setProperty("user.timezone", id);
            TimeZone.setDefault(null);
            System.out.println(TimeZone.getDefault().getID() + "\t" + offsets(args));
        }
    }

    private static String ahead() {
        try {
            Instant before = Instant.now();
            LocalDateTime now = LocalDateTime.now();
            long seconds = now.toEpochSecond(ZoneOffset.UTC) - before.getEpochSecond();
            return String.valueOf(Math.round(seconds / 15.0) * 15);
        } catch (DateTimeException e) {
            return "fails";
        }
    }

    private static String offsets(String[] instants) {
        StringBuilder all = new StringBuilder();
        try {
            ZoneId zone = ZoneId.systemDefault();
            for (String instant : instants) {
                Instant at = Instant.ofEpochSecond(Long.parseLong(instant));
                all.append(' ').append(zone.getRules().getOffset(at).getTotalSeconds());
            }
            return all.toString().trim();
        } catch (DateTimeException e) {
            return "fails";
        }
    }
}
